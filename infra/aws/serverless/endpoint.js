// Serverless 3 overlooks AWS_ENDPOINT_URL: its AWS SDK is older than the variable. This plugin obeys it.
"use strict";

module.exports = class Endpoint {
  constructor(serverless) {
    const endpoint = process.env.AWS_ENDPOINT_URL;
    if (!endpoint) return;
    serverless.getProvider("aws").sdk.config.update({ endpoint, s3ForcePathStyle: true });
  }
};
