"""The command ``taskiq-flow``: run pipelines here, see and steer runs anywhere."""
