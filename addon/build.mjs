// Builds the add-on: compiles src with tsc and lays static beside it. The folder that comes out is loaded by
// Chromium and by Firefox as it is.
//
//   node build.mjs [DIR]            builds into DIR (dist)
//   node build.mjs --firefox DIR    what is given to Firefox's add-on site: without the key that Firefox does not know
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const firefox = args[0] === '--firefox' && args.shift() !== undefined;
const out = resolve(args[0] ?? join(here, 'dist'));

await mkdir(out, { recursive: true });
for (const old of await readdir(out)) await rm(join(out, old), { recursive: true });
await cp(join(here, 'static'), out, { recursive: true });
if (firefox) {
  const path = join(out, 'manifest.json');
  const manifest = JSON.parse(await readFile(path, 'utf8'));
  delete manifest.background.service_worker;
  await writeFile(path, JSON.stringify(manifest, null, 2) + '\n');
}
const tsc = spawnSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), '-p', here, '--outDir', out], { stdio: 'inherit' });
process.exit(tsc.status ?? 1);
