import { execFile } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { alternately, type Row, seconds } from '../row.ts'
import { type Service, startService } from '../service.ts'

const run = promisify(execFile)

const entries = 1_000_000
const pageEntries = 1000

/** A vfolder of one large directory, whose names come in no order. It takes half a minute on a disk. */
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

/** Runs a command that must write so many lines. */
async function lines(wanted: number, command: string, args: string[]): Promise<void> {
  // The time zone is named, since without one the C library looks for it at each time that is printed.
  const env = { ...process.env, TZ: 'UTC', LC_ALL: 'C' }
  const { stdout } = await run('sh', ['-c', '"$@" | wc -l', 'sh', command, ...args], { env })
  if (Number(stdout) !== wanted) throw new Error(`${command} gave ${stdout.trim()} lines instead of ${wanted}`)
}

async function readPage({ url, authorization }: Service, folder: string): Promise<void> {
  const page = `${url}/folders/${folder}/files?path=large&limit=${pageEntries}`
  const response = await fetch(page, { headers: { authorization } })
  const text = await response.text()
  if (text.split('"path"').length - 1 !== pageEntries) throw new Error(`${response.status} ${text.slice(0, 200)}`)
}

export const listPage: Row = {
  name: 'list-page',
  what: `the first page of a directory of a million files, against the first ${pageEntries} lines of ls`,
  bound: { atMost: 1.3 },
  async measure(bench) {
    const service = await startService(bench)
    const { folder, directory } = await makeEntries(service)
    const first = `ls '${directory}' | head -n ${pageEntries}`
    return alternately(5, 's', {
      ours: () => seconds(() => readPage(service, folder)),
      peer: () => seconds(() => lines(pageEntries, 'sh', ['-c', first])),
    })
  },
}

export const listAll: Row = {
  name: 'list-all',
  what: 'a directory of a million files listed as NDJSON, sorted, against find -printf with what our lines have, unsorted',
  bound: { atLeast: 0.5 },
  async measure(bench) {
    const service = await startService(bench)
    const { folder, directory } = await makeEntries(service)
    const headers = [`authorization: ${service.authorization}`, 'accept: application/x-ndjson']
    const url = `${service.url}/folders/${folder}/files?path=large`
    const request = ['-sSf', ...headers.flatMap((header) => ['-H', header]), url]
    // Path, type, size, mode, inode and change time, which are our etag, and modification time.
    const format = '%P %y %s %m %i %C@ %T+\\n'
    const rate = async (work: () => Promise<void>) => entries / (await seconds(work))
    return alternately(5, 'entries/s', {
      ours: () => rate(() => lines(entries, 'curl', request)),
      peer: () => rate(() => lines(entries, 'find', [directory, '-mindepth', '1', '-printf', format])),
    })
  },
}
