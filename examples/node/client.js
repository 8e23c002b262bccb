// A client of Holdfast in Node: sets a goal, and watches it until its end, over a connection that breaks.
//
//   npm ci --prefix examples/node
//   node examples/node/client.js SOCKET REPOSITORY GOAL CHECK
'use strict';

const { randomUUID } = require('crypto');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const PROTO = path.join(__dirname, '../../proto');
const OPTIONS = { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, oneofs: true };
const { v1 } = grpc.loadPackageDefinition(loader.loadSync('holdfast/v1/session_service.proto', OPTIONS)).holdfast;

const [socket, repository, goal, check] = process.argv.slice(2);
const credentials = grpc.credentials.createInsecure();
const sessions = new v1.SessionService(`unix:${socket}`, credentials);

function call(method, request) {
  const deadline = Date.now() + 60000;
  return new Promise((resolve, reject) => {
    sessions[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// All events, each once and in order, over as many streams as it takes.
async function* watch(name) {
  const again = [grpc.status.CANCELLED, grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED];
  for (let last = 0, streams = 1; ; streams++) {
    const stream = sessions.WatchSession({ name, after_sequence: last });
    try {
      for await (const response of stream) {
        if (response.kind !== 'event') continue;
        if (response.event.sequence !== last + 1) throw new Error(`${response.event.sequence} after ${last}`);
        last = response.event.sequence;
        yield response.event;
        if (streams === 1 && last === 5) {
          console.log('watch: again from 5');
          stream.cancel(); // as if the connection was lost
        }
      }
    } catch (error) {
      if (!again.includes(error.code)) throw error;
    } finally {
      stream.cancel(); // also when nobody wants more
    }
  }
}

async function main() {
  // With a request id it can be sent again when no answer comes: it acts once.
  const made = await call('CreateSession', {
    request_id: randomUUID(),
    goal: { text: goal, checks: [{ command: check }] },
    spec: { repository },
  });
  const { name } = made.session;
  console.log(`session: ${name}`);

  for await (const event of watch(name)) {
    if (event.kind !== 'goal_changed') continue;
    const { state } = event.goal_changed;
    if (!/SUCCEEDED|FINISHED_UNVERIFIED|FAILED|CANCELLED/.test(state)) continue;
    console.log(`goal: ${state}`);
    break;
  }
  sessions.close();
}

main();
