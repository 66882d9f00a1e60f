"""
The steps: thin tasks that read, call, validate and write. Their logs, and our library's, stand in each run's log from
INFO on.
"""

import logging

logging.getLogger("alphapivot").setLevel(logging.INFO)
