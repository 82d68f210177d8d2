"""The comparisons of docs/results.md: recipes, systems and labels against each other, over several seeds."""
