"""Is this harness trustworthy on this machine?"""
