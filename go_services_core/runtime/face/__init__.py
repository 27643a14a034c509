"""What ``Runtime`` offers, one class for each subject. They are bases of ``Runtime`` alone: ``self`` is one."""
