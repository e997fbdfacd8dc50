"""Step 3 on a GPU: a SageMaker notebook instance that starts, runs it headless, brings it home and stops itself.

Only the command line uses this, and nothing on the instance needs boto3 or the SageMaker SDK: both are imported where
they are used.
"""
