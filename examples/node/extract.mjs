// Features of image files in Node: node extract.mjs HOST:PORT SOURCE/NAME[@WEIGHTS] MODULE FILE...
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { crc32 } from 'node:zlib';
import { Metadata, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { tableFromIPC } from 'apache-arrow';

const CONTRACT = new URL('../../proto/thingsvision/v1/thingsvision.proto', import.meta.url);
const [address, id, module, ...files] = process.argv.slice(2);
const [, source, name, weights = 'default'] = id.match(/^([^/]+)\/([^@]+)(?:@(.+))?$/);
const model = { source, name };
if (weights.startsWith('random:')) model.randomSeed = weights.slice('random:'.length);
else if (weights !== 'default') model.pretrainedTag = weights;

const contract = loadSync(CONTRACT.pathname, { oneofs: true, enums: String, longs: Number });
const { FeatureService } = loadPackageDefinition(contract).thingsvision.v1;
const service = new FeatureService(address, credentials.createInsecure(), {
  'grpc.max_receive_message_length': -1,
});
const metadata = new Metadata();
metadata.set('x-model', `${source}/${name}@${weights}`);
const call = service.Extract(metadata);

async function send() {
  call.write({ header: { model, modules: [module] } });
  for (const [index, file] of files.entries()) {
    const image = { index, name: basename(file), encoded: readFileSync(file) };
    if (!call.write({ image })) await once(call, 'drain');
  }
  call.end();
}

send();
const frames = [];
let header, trailer;
for await (const reply of call) {
  if (reply.part === 'header') header = reply.header;
  else if (reply.part === 'frame') frames.push(reply.frame.arrowIpc);
  else trailer = reply.trailer;
}
const stream = Buffer.concat(frames);
if (trailer?.arrowCrc32 !== crc32(stream)) throw new Error('the reply is incomplete');
const { shape, axes } = header.columns[0];
for (const row of tableFromIPC(stream)) {
  const values = row[module].toArray(); // a Float32Array in C order: the last axis varies fastest
  console.log(JSON.stringify({ image: row.image, shape, axes, values: [...values] }));
}
