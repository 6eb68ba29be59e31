// Runs a Node.js handler: asks the Runtime API for invocations and calls the handler as Lambda does.
//
// AWS's own aws-lambda-ric needs a compiler to install; this client of ours has its contract, for Node 18 and
// newer. Started as `node bootstrap.mjs HANDLER`. Error documents, handler names and console lines are those of
// https://github.com/aws/aws-lambda-nodejs-runtime-interface-client.

import { existsSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

import { limitImports } from "./imports.mjs";

const ROOT = "/2018-06-01/runtime/";
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const SDK_HINT =
  "Tidemill: Lambda brings the AWS SDK for JavaScript, Tidemill does not: add it to the package or to a layer, or name " +
  "a folder node_modules that holds it in TIDEMILL_FUNCTIONS_NODE_MODULES.";
const NO_CALLBACKS =
  "ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to " +
  "modify this function to use a supported handler signature to use Node.js 24 or later. For more information see " +
  "https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.";
let requestId = "";

class RuntimeError extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

function request(method, route, body = "", headers = {}) {
  return new Promise((resolve, reject) => {
    const length = Buffer.byteLength(body);
    const options = { host, port, agent, method, path: ROOT + route };
    const sent = http.request(
      { ...options, headers: { ...headers, "Content-Type": "application/json", "Content-Length": length } },
      (reply) => {
        const chunks = [];
        reply.on("data", (chunk) => chunks.push(chunk));
        reply.on("end", () => resolve({ status: reply.statusCode, headers: reply.headers, body: Buffer.concat(chunks) }));
        reply.on("error", reject);
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

function documentOf(error) {
  if (error instanceof Error) {
    const trace = (error.stack || "").split("\n");
    return { errorType: error.name, errorMessage: error.message, trace };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

// In the JSON log format a record is one document; an error that is logged alone has its members.
function jsonRecord(level, values) {
  const record = { timestamp: new Date().toISOString(), level, requestId };
  if (values.length === 1 && values[0] instanceof Error) {
    const { name, message, stack } = values[0];
    return { ...record, errorType: name, errorMessage: message, stackTrace: (stack || "").split("\n").slice(1) };
  }
  return { ...record, message: values.length === 1 && typeof values[0] === "object" ? values[0] : format(...values) };
}

// Console lines have Lambda's prefix; a line break inside one is a CR, as one record is one line.
function patchConsole() {
  const levels = { log: "INFO", info: "INFO", debug: "DEBUG", trace: "TRACE", warn: "WARN", error: "ERROR" };
  const isJson = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
  const lowest = isJson ? LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL || "INFO") : 0;
  for (const [method, level] of Object.entries(levels)) {
    console[method] = (...values) => {
      if (isJson) {
        if (LEVELS.indexOf(level) >= lowest) {
          process.stdout.write(`${JSON.stringify(jsonRecord(level, values))}\n`);
        }
        return;
      }
      const text = format(...values).replaceAll("\n", "\r");
      process.stdout.write(`${new Date().toISOString()}\t${requestId || "undefined"}\t${level}\t${text}\n`);
    };
  }
}

function logError(kind, document) {
  const text = JSON.stringify({ ...document, stack: document.trace, trace: undefined });
  console.error(`${kind} \t${text}`);
}

async function loadModule(root, folder, name) {
  const below = path.resolve(root, folder, name);
  const file = ["", ".js", ".mjs", ".cjs"].map((end) => below + end).find((one) => existsSync(one) && path.extname(one));
  if (file === undefined) {
    const resolved = createRequire(path.join(root, "package.json")).resolve(name, { paths: [root, path.join(root, folder)] });
    return import(pathToFileURL(resolved));
  }
  return import(pathToFileURL(file));
}

async function loadHandler(root, handler) {
  if (handler.includes("..")) {
    throw new RuntimeError("Runtime.MalformedHandlerName", `'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(handler);
  const match = /^([^.]*)\.(.*)$/.exec(base);
  if (match === null || match[1] === "" || match[2] === "") {
    throw new RuntimeError("Runtime.MalformedHandlerName", "Bad handler");
  }
  const folder = handler.slice(0, -base.length);
  let found;
  try {
    found = await loadModule(root, folder, match[1]);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new RuntimeError("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`);
    }
    if (error?.code?.endsWith("MODULE_NOT_FOUND") && /'@aws-sdk\/|'@smithy\//.test(error.message)) {
      process.stdout.write(`${SDK_HINT}\n`);
    }
    // A package that `import` does not find keeps its own type, Error, as in AWS's client.
    if (error?.code === "MODULE_NOT_FOUND") {
      throw new RuntimeError("Runtime.ImportModuleError", `Error: ${error.message}`);
    }
    throw error;
  }
  // Through objects alone, as in AWS's client: a static method of a class is not found.
  const step = (value, key) => (value && typeof value === "object" ? value[key] : undefined);
  const get = (start) => match[2].split(".").reduce(step, start);
  const user = get(found) ?? get(found.default);
  if (user === undefined) {
    throw new RuntimeError("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  }
  if (typeof user !== "function") {
    throw new RuntimeError("Runtime.HandlerNotFound", `${handler} is not a function`);
  }
  if (user.length >= 3 && process.env.AWS_EXECUTION_ENV === "AWS_Lambda_nodejs24.x") {
    throw new RuntimeError("Runtime.CallbackHandlerDeprecated", NO_CALLBACKS);
  }
  return user;
}

function contextOf(headers, settle) {
  const { env } = process;
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const client = headers["lambda-runtime-client-context"];
  const identity = headers["lambda-runtime-cognito-identity"];
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: requestId,
    clientContext: client ? JSON.parse(client) : undefined,
    identity: identity ? JSON.parse(identity) : undefined,
    getRemainingTimeInMillis: () => deadline - Date.now(),
    done: (error, result) => settle(error, result),
    succeed: (result) => settle(null, result),
    fail: (error) => settle(error ?? new Error("fail")),
  };
}

// Call the handler in each of its forms; resolves to its result, rejects with what it threw.
function call(user, event, headers) {
  return new Promise((resolve, reject) => {
    let context;
    // A handler that neither returns a promise nor calls back ends when nothing is left to do.
    let end = () => resolve(null);
    process.once("beforeExit", () => end());
    const settle = (error, result) => {
      end = () => (error === null || error === undefined ? resolve(result) : reject(error));
      if (!context.callbackWaitsForEmptyEventLoop) {
        end();
      }
    };
    const now = (error, result) => {
      context.callbackWaitsForEmptyEventLoop = false;
      settle(error, result);
    };
    context = contextOf(headers, now);
    const returned = user(event, context, settle);
    if (typeof returned?.then === "function") {
      returned.then(resolve, reject);
    }
  });
}

// Node.js queues what the pipe cannot take: an answer that went before it would have the wrong log.
async function written() {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.writableLength > 0) {
      await new Promise((resolve) => stream.write("", resolve));
    }
  }
}

async function answer(headers, result) {
  let body;
  try {
    body = JSON.stringify(result === undefined ? null : result) ?? "null";
  } catch {
    throw new RuntimeError("Runtime.JSONStringifyError", "Unable to stringify response body");
  }
  await written();
  const reply = await request("POST", `invocation/${requestId}/response`, body);
  if (reply.status !== 202) {
    process.exit(1);
  }
}

async function fail(error) {
  const document = documentOf(error);
  logError("Invoke Error", document);
  await written();
  const headers = { "Lambda-Runtime-Function-Error-Type": document.errorType };
  await request("POST", `invocation/${requestId}/error`, JSON.stringify(document), headers);
}

async function serve(user) {
  for (;;) {
    const next = await request("GET", "invocation/next");
    requestId = next.headers["lambda-runtime-aws-request-id"];
    process.env._X_AMZN_TRACE_ID = next.headers["lambda-runtime-trace-id"] ?? "";
    process.removeAllListeners("beforeExit");
    try {
      await answer(next.headers, await call(user, JSON.parse(next.body), next.headers));
    } catch (error) {
      await fail(error);
    }
  }
}

async function fatal(error, status) {
  const document = documentOf(error);
  logError("Uncaught Exception", document);
  const route = requestId === "" ? "init/error" : `invocation/${requestId}/error`;
  await request("POST", route, JSON.stringify(document)).catch(() => undefined);
  process.exit(status);
}

patchConsole();
limitImports(process.env.LAMBDA_TASK_ROOT, process.env.NODE_PATH ?? "");
globalThis.awslambda = {
  streamifyResponse: () => {
    throw new RuntimeError("Runtime.StreamingNotBuilt", "Response streaming is not built in Tidemill: return the response.");
  },
};
process.on("uncaughtException", (error) => fatal(error, 129));
process.on("unhandledRejection", (reason) => {
  const error = new RuntimeError("Runtime.UnhandledPromiseRejection", String(reason));
  error.stack = reason?.stack ?? error.stack;
  return fatal(error, 128);
});
loadHandler(process.env.LAMBDA_TASK_ROOT, process.argv[2])
  .then(serve)
  .catch((error) => fatal(error, 1));
