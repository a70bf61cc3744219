import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { fileOf } from '../files.ts'
import { alternately, type Bench, type Row, seconds } from '../row.ts'
import { send } from '../sender.ts'
import { type Service, startService } from '../service.ts'
import { sink } from '../sink.ts'
import { requestsPerSecond } from '../wrk.ts'

const MiB = 1024 ** 2
const secret = 'a-secret-of-backend-ai-for-the-bench'
const Token = Type.Object({ token: Type.String() })

interface Wire {
  service: Service
  folder: string
  /** As the manager of Backend.AI asks for it, for a client. */
  urlFor(call: 'download' | 'upload', entry: { relpath: string; size?: number }): Promise<string>
}

/** A vfolder that both APIs of one service reach. */
async function startWire(bench: Bench): Promise<Wire> {
  const service = await startService(bench, { BACKEND_AI_MANAGER_SECRET: secret })
  const folder = randomUUID()
  const vfid = `user:${randomUUID()}/${folder.replaceAll('-', '')}`
  const ask = async (path: string, more: object) => {
    const response = await fetch(`${service.url}/backend-ai/folder/${path}`, {
      method: 'POST',
      headers: { 'x-backendai-storage-auth-token': secret, 'content-type': 'application/json' },
      body: JSON.stringify({ volume: 'default', vfid, ...more }),
    })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return response
  }
  await ask('create', {})
  return {
    service,
    folder,
    urlFor: async (call, entry) => {
      const { token } = Value.Parse(Token, await (await ask(`file/${call}`, entry)).json())
      return `${service.url}/backend-ai/${call}?token=${token}`
    },
  }
}

export const backendAi1g: Row = {
  name: 'backend-ai-1g',
  what: "one download of 1 GiB by a token of Backend.AI's wire, against a signed one",
  bound: { atLeast: 0.95 },
  async measure(bench) {
    const { service, folder, urlFor } = await startWire(bench)
    await fileOf(join(await service.directoryOf(folder), 'large'), 1024 * MiB)
    const [signed = ''] = await service.signDownloads(folder, ['large'])
    const url = await urlFor('download', { relpath: 'large' })
    const speed = async (from: string) => 1024 / (await seconds(() => sink(from)))
    return alternately(9, 'MiB/s', { ours: () => speed(url), peer: () => speed(signed) })
  },
}

export const backendAi4k: Row = {
  name: 'backend-ai-4k',
  what: "downloads of 1000 files of 4 KiB by tokens of Backend.AI's wire, against signed ones",
  bound: { atLeast: 0.95 },
  async measure(bench) {
    const { service, folder, urlFor } = await startWire(bench)
    const directory = await service.directoryOf(folder)
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
    for (const name of names) await fileOf(join(directory, name), 4096)
    const signed = await service.signDownloads(folder, names)
    const urls: string[] = []
    for (const relpath of names) urls.push(await urlFor('download', { relpath }))
    return alternately(5, 'files/s', {
      ours: () => requestsPerSecond(bench, urls),
      peer: () => requestsPerSecond(bench, signed),
    })
  },
}

/** As Backend.AI's SDK sends them. */
const patchBytes = 16 * MiB
const patches = 4
const size = patches * patchBytes
const tus = { 'tus-resumable': '1.0.0' }

/** One upload in several PATCHes. */
async function patch(url: string): Promise<void> {
  for (let offset = 0; offset < size; offset += patchBytes) {
    const headers = { ...tus, 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' }
    await send('PATCH', url, patchBytes, headers)
  }
}

async function create(url: string): Promise<string> {
  const response = await fetch(url, { method: 'POST', headers: { ...tus, 'upload-length': String(size) } })
  const location = response.headers.get('location')
  if (location === null) throw new Error(`${response.status} ${await response.text()}`)
  return location
}

export const backendAiUpload: Row = {
  name: 'backend-ai-upload',
  what: "one upload of 64 MiB in PATCHes of 16 MiB by Backend.AI's wire, against tus by a signed URL",
  bound: { atLeast: 0.95 },
  async measure(bench) {
    const { service, folder, urlFor } = await startWire(bench)
    const [signed = ''] = await service.signUploads(folder, ['tus'])
    const creation = `${service.url}/upload/tus${new URL(signed).search}`
    const speed = async (upload: () => Promise<void>) => size / MiB / (await seconds(upload))
    return alternately(9, 'MiB/s', {
      // Its first PATCH begins the upload, as the POST of tus does.
      ours: async () => {
        const url = await urlFor('upload', { relpath: 'theirs', size })
        return speed(() => patch(url))
      },
      peer: () => speed(async () => patch(await create(creation))),
    })
  },
}
