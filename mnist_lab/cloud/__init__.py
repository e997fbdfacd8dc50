"""Step 3 on a GPU: a SageMaker notebook instance runs it headless and stops itself; the results come back here.

Only ``mnist-lab sagemaker`` uses this. The instance needs neither boto3 nor the SageMaker SDK: both are imported where
they are used.
"""
