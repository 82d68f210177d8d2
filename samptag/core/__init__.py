"""The core every command shares: networks, segments, devices and model files; no sound, no screen.

Importing this package loads nothing: each module is imported where it is needed, so that commands which never touch
a network never load torch.
"""
