const { App, Stack, CfnOutput, Duration, RemovalPolicy } = require("aws-cdk-lib");
const lambda = require("aws-cdk-lib/aws-lambda");
const sources = require("aws-cdk-lib/aws-lambda-event-sources");
const ec2 = require("aws-cdk-lib/aws-ec2");
const sqs = require("aws-cdk-lib/aws-sqs");
const dynamodb = require("aws-cdk-lib/aws-dynamodb");

const app = new App();
const stack = new Stack(app, "orders-cdk");
const failures = new sqs.Queue(stack, "Failures");
const results = new dynamodb.Table(stack, "Results", {
  partitionKey: { name: "id", type: dynamodb.AttributeType.STRING },
  billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
  removalPolicy: RemovalPolicy.DESTROY,
});
const orders = new lambda.Function(stack, "Orders", {
  runtime: lambda.Runtime.PYTHON_3_11,
  handler: "app.handler",
  code: lambda.Code.fromAsset("orders"),
  timeout: Duration.seconds(20),
  environment: { TABLE: results.tableName },
});
results.grantWriteData(orders);
orders.addEventSource(
  new sources.ManagedKafkaEventSource({
    clusterArn: process.env.CLUSTER_ARN,
    topic: "cdk-orders",
    startingPosition: lambda.StartingPosition.TRIM_HORIZON,
    batchSize: Number(process.env.BATCH_SIZE ?? 10),
    provisionedPollerConfig: { minimumPollers: 1, maximumPollers: 2 },
    bisectBatchOnError: true,
    retryAttempts: 2,
    onFailure: new sources.SqsDlq(failures),
  }),
);
orders.addEventSource(
  new sources.SelfManagedKafkaEventSource({
    bootstrapServers: [process.env.BOOTSTRAP_SERVERS],
    topic: "cdk-returns",
    startingPosition: lambda.StartingPosition.TRIM_HORIZON,
    // A cluster without authentication is one in a VPC. With SCRAM, give `secret` instead.
    vpc: ec2.Vpc.fromVpcAttributes(stack, "Vpc", {
      vpcId: "vpc-0123456789abcdef0",
      availabilityZones: ["us-east-1a"],
      privateSubnetIds: ["subnet-0123456789abcdef0"],
    }),
    vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS },
    securityGroup: ec2.SecurityGroup.fromSecurityGroupId(stack, "Group", "sg-0123456789abcdef0"),
  }),
);
new CfnOutput(stack, "TableName", { value: results.tableName });
