// The contract suite's handler for Node.js; Handler.java and APP in cases.py do the same.
const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { Worker } = require("node:worker_threads");

if (process.env.AT_INIT === "raise") throw new RangeError("at init é");
if (process.env.AT_INIT === "exit") process.exit(7);
const temporary = path.join(os.tmpdir(), "kept");
const held = [];

exports.handler = async (event, context) => {
  switch (event?.do) {
    case "raise": throw new TypeError("boom é");
    case "unserialisable": return { n: 1n };
    case "exit": process.exit(event.status); break;
    case "signal": process.kill(process.pid, event.number); return new Promise(() => {});
    case "sleep": await new Promise((resolve) => setTimeout(resolve, 600000)); break;
    case "hold": for (;;) {
      held.push(Buffer.alloc(1 << 20, 1));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    case "size": return "x".repeat(event.count);
    case "length": return event.text.length;
    case "print": console.log(event.text); console.error("on error"); return undefined;
    case "print-unended": process.stdout.write("no end of line"); return null;
    case "flood": {
      const line = "x".repeat(999);
      for (let n = 0; n < event.lines; n += 1) process.stdout.write(line + "\n");
      return null;
    }
    case "env": return process.env[event.name] ?? null;
    case "trace": return process.env._X_AMZN_TRACE_ID;
    case "pid": return process.pid;
    case "child": return spawn("sleep", ["600"], { stdio: "ignore" }).pid;
    case "thread": new Worker("setInterval(() => {}, 50)", { eval: true }); return null;
    case "write": fs.writeFileSync(temporary, event.text); return temporary;
    case "read": return fs.existsSync(temporary) ? fs.readFileSync(temporary, "utf8") : null;
    case "data": return fs.readFileSync("data.txt", "utf8");
    case "program": return execFileSync("of-the-layer", { encoding: "utf8" });
    case "left": return context.getRemainingTimeInMillis();
    case "client": return context.clientContext?.custom ?? null;
    case "context":
      return [context.awsRequestId, context.functionName, context.invokedFunctionArn,
              Number(context.memoryLimitInMB), context.functionVersion, context.logGroupName];
    default: return event;
  }
};
