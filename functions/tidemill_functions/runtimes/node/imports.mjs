// Finds the packages that a handler imports where Lambda finds them, and nowhere else.
//
// Since its Node.js 18 runtime Lambda searches the folders of NODE_PATH for `import` too, which Node.js itself does
// for `require` alone (https://aws.amazon.com/blogs/compute/node-js-18-x-runtime-now-available-in-aws-lambda). And
// what lies above a function here, such as the node_modules of the project that runs Tidemill, is not on Lambda.

import { existsSync } from "node:fs";
import module from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

let root = "";
let folders = []; // those called node_modules that NODE_PATH names

const isPackage = (specifier) => /^[^./#][^:]*$/.test(specifier) && !module.builtinModules.includes(specifier);
const isAbove = (file) => {
  const above = file.slice(0, file.indexOf(`${path.sep}node_modules${path.sep}`) + 1);
  return above !== "" && above !== root && root.startsWith(above);
};

export function initialize(data) {
  ({ root, folders } = data);
}

// A package is looked for as if it were imported from each of these places, until one has it.
function places(context) {
  const beside = (folder) => ({ ...context, parentURL: pathToFileURL(path.join(path.dirname(folder), "any.mjs")).href });
  return [[context, root], ...folders.map((folder) => [beside(folder), folder + path.sep])];
}

function accepted(found, folder, specifier, { parentURL }) {
  const file = found.url.startsWith("file:") ? fileURLToPath(found.url) : folder;
  if (!file.startsWith(folder) && isAbove(file)) {
    const error = new Error(`Cannot find package '${specifier}' imported from ${fileURLToPath(parentURL)}`);
    throw Object.assign(error, { code: "ERR_MODULE_NOT_FOUND" });
  }
  return found;
}

function remember(error, first) {
  if (error.code !== "ERR_MODULE_NOT_FOUND" && error.code !== "MODULE_NOT_FOUND") {
    throw error;
  }
  return first ?? error;
}

export async function resolve(specifier, context, next) {
  if (!isPackage(specifier) || context.parentURL === undefined) {
    return next(specifier, context);
  }
  let first;
  for (const [place, folder] of places(context)) {
    try {
      return accepted(await next(specifier, place), folder, specifier, context);
    } catch (error) {
      first = remember(error, first);
    }
  }
  throw first;
}

function resolveSync(specifier, context, next) {
  if (!isPackage(specifier) || context.parentURL === undefined || context.conditions.includes("require")) {
    return next(specifier, context);
  }
  let first;
  for (const [place, folder] of places(context)) {
    try {
      return accepted(next(specifier, place), folder, specifier, context);
    } catch (error) {
      first = remember(error, first);
    }
  }
  throw first;
}

// Called once, by bootstrap.mjs, before the handler is loaded.
export function limitImports(taskRoot, nodePath) {
  const named = nodePath.split(path.delimiter).filter((folder) => path.basename(folder) === "node_modules");
  const data = { root: taskRoot + path.sep, folders: named.filter((folder) => existsSync(folder)) };
  initialize(data);
  const pathsOf = module._nodeModulePaths;
  module._nodeModulePaths = (from) => pathsOf(from).filter((folder) => !isAbove(path.join(folder, "any")));
  let above = path.dirname(taskRoot);
  while (above !== path.dirname(above) && !existsSync(path.join(above, "node_modules"))) {
    above = path.dirname(above);
  }
  // A thread of hooks costs a start some 20 ms: only where there is something to find, or to hide.
  if (folders.length > 0 || existsSync(path.join(above, "node_modules"))) {
    if (module.registerHooks !== undefined) {
      module.registerHooks({ resolve: resolveSync });
    } else if (module.register !== undefined) {
      module.register(import.meta.url, { data });
    }
  }
}
