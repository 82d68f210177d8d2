"""The words of a person with a library: how they are made of public taggers' tags, and how well a model knows them."""
