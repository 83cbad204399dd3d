"""Code that asks AWS Secrets Manager: `dagster api grpc --python-file definitions.py`. Its image needs dagster-aws.

The login of AWS comes as secret_env of the code location, and no secret comes into an image, a log or a run's
configuration: an asset asks for it when it needs it.
"""

# No `from __future__ import annotations` in this file: Dagster reads the annotations of resources as objects.

import dagster as dg
from dagster_aws.secretsmanager import SecretsManagerResource


@dg.asset(description="The export of a shop that wants an API key.")
def shop_export(secrets_manager: SecretsManagerResource) -> dg.MaterializeResult:
    answer = secrets_manager.get_client().get_secret_value(SecretId="shop/api-key")
    api_key: str = answer["SecretString"]
    # Here the shop would be asked. The length shows that the key has come, and is no secret.
    return dg.MaterializeResult(metadata={"length_of_the_key": len(api_key)})


defs = dg.Definitions(
    assets=[shop_export],
    # boto3 itself reads the login (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the region (AWS_DEFAULT_REGION) and the
    # address of another server (AWS_ENDPOINT_URL) from the environment.
    resources={"secrets_manager": SecretsManagerResource()},
    executor=dg.in_process_executor,
)
