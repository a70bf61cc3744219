import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fileOf } from '../files.ts'
import { startPostgres } from '../postgres.ts'
import { alternately, type Bench, type Measured, type Row, seconds } from '../row.ts'
import { answering, freePort, type Service, start, startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

const bytes = 4096
/** More than are stored in a round, so that each file is a new one. */
const filesPerRound = 20_000
const filesPerCall = 1000
const formFiles = 2000

function newNames(count = filesPerRound): string[] {
  const round = randomUUID()
  return Array.from({ length: count }, (_, index) => `${round}-${index}`)
}

async function signNew(service: Service): Promise<string[]> {
  const folder = await service.createFolder()
  const names = newNames()
  const urls: string[] = []
  for (let at = 0; at < names.length; at += filesPerCall) {
    urls.push(...(await service.signUploads(folder, names.slice(at, at + filesPerCall))))
  }
  return urls
}

/** Measures ours in turn with the peer, which is sent signed PUTs of as many connections. */
async function against(
  bench: Bench,
  connections: number,
  ours: (service: Service) => Promise<number>,
  variables: NodeJS.ProcessEnv = {},
) {
  const service = await startService(bench, variables)
  const root = join(bench.directory, 'bare')
  await mkdir(root)
  const port = await freePort()
  start(bench, [fileURLToPath(new URL('../bare-staging-server.ts', import.meta.url)), String(port), root])
  const bare = `http://127.0.0.1:${port}`
  await answering(bare)
  return alternately(5, 'files/s', {
    ours: () => ours(service),
    peer: () => {
      const urls = newNames().map((name) => `${bare}/${name}`)
      return requestsPerSecond(bench, urls, { connections, send: { method: 'PUT', bytes } })
    },
  })
}

const peer = 'against a bare Node server that stages, flushes, renames and flushes the directory'

const put = (bench: Bench, connections: number) => async (service: Service) =>
  requestsPerSecond(bench, await signNew(service), { connections, send: { method: 'PUT', bytes } })

export const put4k: Row = {
  name: 'put-4k',
  what: `signed PUTs of 4 KiB, each a new file, over 32 connections, ${peer}`,
  bound: { atLeast: 0.6 },
  measure: (bench) => against(bench, 32, put(bench, 32)),
}

export const put4kPostgres: Row = {
  name: 'put-4k-postgres',
  what: `the same with the state in PostgreSQL, ${peer}`,
  bound: { atLeast: 0.4 },
  measure: async (bench) => against(bench, 32, put(bench, 32), { DATABASE_URL: await startPostgres(bench) }),
}

export const put4kOne: Row = {
  name: 'put-4k-one',
  what: `signed PUTs of 4 KiB, each a new file, over one connection, ${peer}`,
  bound: { atLeast: 0.6 },
  measure: (bench) => against(bench, 1, put(bench, 1)),
}

export const put4kEvents: Row = {
  name: 'put-4k-events',
  what: 'signed PUTs of 4 KiB, each a new file, over 32 connections with EVENTS=on, against the same without',
  bound: { atLeast: 0.7 },
  async measure(bench) {
    const telling = await startService(bench, { EVENTS: 'on', DATA_DIR: join(bench.directory, 'telling') })
    const silent = await startService(bench, { DATA_DIR: join(bench.directory, 'silent') })
    const measure = put(bench, 32)
    return alternately(5, 'files/s', { ours: () => measure(telling), peer: () => measure(silent) })
  },
}

async function storeForm({ url, authorization, createFolder }: Service): Promise<number> {
  const form = new FormData()
  for (const name of newNames(formFiles)) form.append('file', new Blob([new Uint8Array(bytes)]), name)
  const target = `${url}/folders/upload?folder=${await createFolder()}`
  const time = await seconds(async () => {
    const response = await fetch(target, { method: 'POST', headers: { authorization }, body: form })
    if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`)
    await response.arrayBuffer()
  })
  return formFiles / time
}

export const form4k: Row = {
  name: 'form-4k',
  what: `a form of ${formFiles} files of 4 KiB, ${peer}, by PUTs over 32 connections`,
  bound: { atLeast: 0.6 },
  measure: (bench) => against(bench, 32, storeForm),
}

async function createByTus(bench: Bench, service: Service): Promise<number> {
  const urls = (await signNew(service)).map((url) => `${service.url}/upload/tus${new URL(url).search}`)
  const headers = {
    'Tus-Resumable': '1.0.0',
    'Upload-Length': String(bytes),
    'Content-Type': 'application/offset+octet-stream',
  }
  return requestsPerSecond(bench, urls, { send: { method: 'POST', bytes, headers } })
}

export const tus4k: Row = {
  name: 'tus-4k',
  what: `tus uploads of 4 KiB, each begun with its bytes, over 32 connections, ${peer}, by PUTs`,
  bound: { atLeast: 0.4 },
  measure: (bench) => against(bench, 32, (service) => createByTus(bench, service)),
}

export const downloadBesidePuts: Row = {
  name: 'download-beside-puts',
  what: 'signed downloads of 4 KiB beside signed PUTs of 4 KiB over 32 connections, against the downloads alone',
  bound: { atLeast: 0.75 },
  async measure(bench): Promise<Measured> {
    const service = await startService(bench)
    const folder = await service.createFolder()
    const directory = await service.directoryOf(folder)
    const names = newNames(1000)
    for (const name of names) await fileOf(join(directory, name), bytes)
    const urls = await service.signDownloads(folder, names)
    return alternately(5, 'files/s', {
      ours: async () => {
        const uploads = await signNew(service)
        const beside = requestsPerSecond(bench, uploads, { durationSeconds: 6, send: { method: 'PUT', bytes } })
        const rate = await requestsPerSecond(bench, urls)
        await beside
        return rate
      },
      peer: () => requestsPerSecond(bench, urls),
    })
  },
}
