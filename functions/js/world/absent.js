// What is not there says why.

import { define } from './define.js';

// Code is what was compiled. Libraries that would make more of it see that they can't: in a context that serves one call,
// that never pays.
const uncompiled = () => {
  throw new EvalError('code can\'t be made of text in functions');
};
define('eval', uncompiled);
for (const sample of [function () {}, async function () {}, function* () {}, async function* () {}]) {
  const prototype = Object.getPrototypeOf(sample);
  const constructor = function () { uncompiled(); };
  Object.defineProperty(constructor, 'name', { value: prototype.constructor.name });
  Object.defineProperty(constructor, 'prototype', { value: prototype });
  Object.defineProperty(prototype, 'constructor', { value: constructor, configurable: true });
  if (constructor.name === 'Function') define('Function', constructor);
}

const absent = (name, instead) => define(name, function () {
  throw new Error(`${name} is not there in queries and mutations, which are run again at need: ${instead}`);
});
absent('setTimeout', 'nothing may happen later than the call; use a mutation for what is to happen');
absent('setInterval', 'nothing may happen later than the call');
absent('setImmediate', 'nothing may happen later than the call; await a promise instead');
absent('fetch', 'they have no network; call the other service from your own backend and write the answer by a mutation');
for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) define(name, () => undefined);
for (const name of ['performance', 'SharedArrayBuffer', 'Atomics', 'WeakRef', 'FinalizationRegistry', 'gc']) {
  delete globalThis[name];
}
