"""The recipe of the default weights, samplecnn-3-9-mtat50: a SampleCNN taught by musicnn on freely licensed music.

``python -m recipes.samplecnn_3_9_mtat50 --help`` says how to run it, README.md beside this file what it does and why.
"""
