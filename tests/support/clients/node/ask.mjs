// Asks an ONNX file through onnxruntime-node: node ask.mjs FOLDER
//
// FOLDER/request.json is {"model": file, "photos": [{file, shape}], "rounds", "threads"},
// with files in FOLDER. The bytes of the masks go to FOLDER/0.mask and so on; the rest is printed.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { ask } from "./asking.mjs";

const inFolder = (name) => join(process.argv[2], name);
const { model, photos, rounds, threads } = JSON.parse(readFileSync(inFolder("request.json")));
const session = await ort.InferenceSession.create(inFolder(model), { intraOpNumThreads: threads });
const decoded = photos.map((photo) => ({ ...photo, pixels: readFileSync(inFolder(photo.file)) }));
const { masks, milliseconds } = await ask(ort, session, decoded, rounds);
masks.forEach((mask, i) => writeFileSync(inFolder(`${i}.mask`), mask.pixels));
const shapes = masks.map((mask) => mask.shape);
console.log(JSON.stringify({ version: ort.env.versions.node, shapes, milliseconds }));
