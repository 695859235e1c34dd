// What a context has besides the language.

import { fill } from './chance.js';
import { define, natives } from './define.js';
import { stop } from './time.js';
import './absent.js';
import './bytes.js';
import './console.js';
import './url.js';

define('self', globalThis);

/** Sets time and chance for a call. */
natives.begin = (time, low, high) => {
  stop(time);
  fill(low, high);
};
natives.begin(natives.evaluatedAt, 0, 0);
