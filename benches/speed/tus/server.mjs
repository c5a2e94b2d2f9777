// tus over a bucket, as its documentation sets it up: `node server.mjs PORT ENDPOINT PREFIX`, with the packages in the folder that
// TUS_PACKAGES names.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.env.TUS_PACKAGES}/`));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Server } = await load("@tus/server");
const { S3Store } = await load("@tus/s3-store");

const [port, endpoint, prefix] = process.argv.slice(2);
const datastore = new S3Store({
  partSize: 8 * 1024 * 1024,
  s3ClientConfig: {
    bucket: "bucket",
    endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: { accessKeyId: "testkey12345", secretAccessKey: "testsecret12345" },
  },
});
const server = new Server({
  path: "/up",
  datastore,
  // The files lie where the benchmark looks for them.
  namingFunction: (request) => `${prefix}/${request.headers.get("x-name")}`,
  generateUrl: (_request, { proto, host, path, id }) =>
    `${proto}://${host}${path}/${Buffer.from(id).toString("base64url")}`,
  getFileIdFromRequest: (_request, last) => Buffer.from(last, "base64url").toString(),
});
server.listen({ host: "127.0.0.1", port: Number(port) });
