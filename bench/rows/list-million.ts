import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { alternately, type Bench, type Row, seconds } from '../row.ts'
import { type Service, startService } from '../service.ts'

const entries = 1_000_000
const pageEntries = 1000

/** A vfolder of one large directory, whose names come in no order. */
async function makeEntries(service: Service): Promise<{ folder: string; directory: string }> {
  const folder = await service.createFolder()
  const directory = join(await service.directoryOf(folder), 'large')
  mkdirSync(directory)
  for (let number = 0; number < entries; number++) {
    const name = `entry-number-${(number * 7919) % entries}.txt`
    closeSync(openSync(join(directory, name), 'wx'))
  }
  return { folder, directory }
}

/** Runs a command whose output is read and thrown away, and counts its lines. */
async function linesOf(command: string, args: string[]): Promise<number> {
  // The time zone is named, since without one the C library looks for it at each time that is printed.
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' },
  })
  const closed = once(child, 'close')
  const lines = await countLines(child.stdout)
  await closed
  return lines
}

async function countLines(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let lines = 0
  for await (const chunk of chunks) {
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, end + 1)) lines++
  }
  return lines
}

async function read(service: Service, url: string, accept: string): Promise<ReadableStream<Uint8Array>> {
  const response = await fetch(service.url + url, { headers: { authorization: service.authorization, accept } })
  if (response.status !== 200 || response.body === null) throw new Error(`${response.status} ${await response.text()}`)
  return response.body
}

function expect(lines: number, wanted: number): void {
  if (lines !== wanted) throw new Error(`${lines} entries were listed`)
}

export const listPage: Row = {
  name: 'list-page',
  what: `the first page of a directory of a million files, against the first ${pageEntries} lines of ls`,
  bound: { atMost: 1 },
  async measure(bench: Bench) {
    const service = await startService(bench)
    const { folder, directory } = await makeEntries(service)
    const url = `/folders/${folder}/files?path=large&limit=${pageEntries}`
    return alternately(5, 's', {
      ours: () =>
        seconds(async () => {
          const text = Buffer.concat(await Array.fromAsync(await read(service, url, 'application/json'))).toString()
          expect(text.split('"path"').length - 1, pageEntries)
        }),
      peer: () =>
        seconds(async () =>
          expect(await linesOf('sh', ['-c', `ls '${directory}' | head -n ${pageEntries}`]), pageEntries),
        ),
    })
  },
}

export const listAll: Row = {
  name: 'list-all',
  what: 'a directory of a million files listed as NDJSON, sorted, against find -printf with what our lines have, unsorted',
  bound: { atLeast: 0.5 },
  async measure(bench: Bench) {
    const service = await startService(bench)
    const { folder, directory } = await makeEntries(service)
    const url = `/folders/${folder}/files?path=large`
    // Path, type, size, mode, inode and change time, which are our etag, and modification time.
    const format = '%P %y %s %m %i %C@ %T+\\n'
    const rate = async (work: () => Promise<void>) => entries / (await seconds(work))
    return alternately(5, 'entries/s', {
      ours: () => rate(async () => expect(await countLines(await read(service, url, 'application/x-ndjson')), entries)),
      peer: () =>
        rate(async () => expect(await linesOf('find', [directory, '-mindepth', '1', '-printf', format]), entries)),
    })
  },
}
