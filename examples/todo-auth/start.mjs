// Starts everything: the issuer of tokens, the page with the issuer's address in it, and `convoy dev`.

import { spawn } from 'node:child_process';
import { build } from 'esbuild';
import { secret, serve } from './issuer.mjs';

secret();
const issuer = await serve();
console.error(`issuing tokens at ${issuer.url}: log in as ada, bob or grace, each with the name as password`);
await build({
  entryPoints: ['src/main.tsx'],
  outfile: 'public/app.js',
  bundle: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  // The package is linked: it would look for these beside itself.
  alias: { react: './node_modules/react', zod: './node_modules/zod' },
  define: { ISSUER: JSON.stringify(issuer.url) },
  logLevel: 'warning',
});
const convoy = spawn('convoy', ['dev', '--public', 'public', ...process.argv.slice(2)], { stdio: 'inherit' });
convoy.on('error', (error) => {
  console.error(`convoy can't be started: ${error.message}; start this by npm start, which has it on its PATH`);
  process.exit(1);
});
// Ctrl-C reaches it by the terminal; what is sent to this process alone is passed on. Its end is the end of all.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => convoy.kill(signal));
convoy.on('exit', (status) => {
  issuer.close();
  process.exit(status ?? 1);
});
