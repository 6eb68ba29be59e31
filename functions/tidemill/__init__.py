"""What the code of a Lambda function imports of Tidemill: the decorator and the trigger that it declares.

It is copied into users' packages: it imports nothing but the standard library.
"""

from tidemill.trigger import KafkaTrigger, function

__all__ = ["KafkaTrigger", "function"]
