"""What samptag is compared with: each module tags one folder as a whole process and prints one JSON line a file."""
