import { S3Client } from "@aws-sdk/client-s3";
import { SQSClient } from "@aws-sdk/client-sqs";

// Clients for AWS, or for an emulator where AWS_ENDPOINT_URL names one.
export function createClients(config) {
  const common = {
    region: config.region,
    maxAttempts: 3,
    requestHandler: { connectionTimeout: 1000, requestTimeout: config.awsTimeoutMs, throwOnRequestTimeout: true },
  };
  if (!config.endpoint) {
    return { s3: new S3Client(common), sqs: new SQSClient(common) };
  }
  return {
    // The bucket goes into the path: BUCKET.HOST does not resolve for an emulator.
    s3: new S3Client({ ...common, endpoint: config.endpoint, forcePathStyle: true }),
    // An emulator may hand out queue URLs with a host that only it can resolve,
    // so requests go to the endpoint and the URL is just the queue's name.
    sqs: new SQSClient({ ...common, endpoint: config.endpoint, useQueueUrlAsEndpoint: false }),
  };
}
