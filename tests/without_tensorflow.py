"""What must run without TensorFlow; test_package.py runs it with the import blocked."""

print("ran without tensorflow")
