// Runs the JavaScript code of a user, in the sandbox, and tells the value of its last expression, as a notebook does.
// This file is copied into the sandbox: the code is in /code/main.js, the result goes to descriptor 3.
"use strict";
const fs = require("node:fs");
const util = require("node:util");
const vm = require("node:vm");

const PLACE = "/code/main.js";
const MOST_TEXT = 100000; // characters of a value's text
const MOST_JSON = 500000; // characters of a value as JSON; of a longer one only the text is told

function tell(value) {
  if (value === undefined) return;
  const told = { text: util.inspect(value).slice(0, MOST_TEXT) };
  try {
    const json = JSON.stringify(value);
    if (json !== undefined && json.length <= MOST_JSON) told.json = JSON.parse(json);
  } catch {
    // only its text, then: it has cycles, or large integers
  }
  fs.writeSync(3, JSON.stringify(told));
}

async function main() {
  globalThis.require = require;
  tell(await vm.runInThisContext(fs.readFileSync(PLACE, "utf8"), { filename: PLACE }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
