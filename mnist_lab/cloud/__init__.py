"""A GPU for an hour: one worker, and three doors through which it reaches a machine on AWS.

A machine needs neither boto3 nor the SageMaker SDK: both are imported where they are used.
"""
