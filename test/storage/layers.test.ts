import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import t from 'tap'
import type { Backend, OpenFile } from '../../backends/backend.ts'
import { type Capability, hasCapability, optionalMembers } from '../../backends/capabilities.ts'
import { Unavailable } from '../../backends/errors.ts'
import { bound, Turns } from '../../backends/layers/bound.ts'
import { callLog } from '../../backends/layers/call-log.ts'
import { circuit } from '../../backends/layers/circuit.ts'
import { around, type Layer } from '../../backends/layers/layer.ts'
import { timeLimit } from '../../backends/layers/time-limit.ts'
import { parsePath } from '../../backends/path.ts'
import { posix } from '../../backends/posix/index.ts'
import { eventually, temporaryDirectory } from '../server.ts'

const call = { signal: new AbortController().signal }
const log = pino({ level: 'silent' })
const never = () => new Promise<never>(() => {})
const all = () => [callLog(log), bound(new Turns(10, 100)), circuit(log), timeLimit(60)]

async function openPosix(t: { teardown(fn: () => unknown): void }): Promise<Backend> {
  const options = { root: `${await temporaryDirectory(t)}/root`, fileMode: '0644', directoryMode: '0755' }
  return posix.create({ options, log, idleSeconds: 240, ...call })
}

async function* once(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text)
}

async function drain(items: AsyncIterable<unknown>): Promise<number> {
  let count = 0
  for await (const _ of items) count++
  return count
}

// A hanging call keeps no process alive, and neither does the timer of the limits.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

t.test('a backend has the same capabilities with layers around it', async (t) => {
  const backend = await openPosix(t)
  const membersOf = (one: Backend) => optionalMembers.filter((member) => hasCapability(one, member))
  t.same(membersOf(around(backend, all())), membersOf(backend))
  const able: Backend = { ...backend, ...Object.fromEntries(optionalMembers.map((name) => [name, never])) }
  t.same(membersOf(around(able, all())), optionalMembers)
  for (const absent of optionalMembers) {
    const rest = optionalMembers.filter((name): name is Exclude<Capability, typeof absent> => name !== absent)
    t.same(membersOf(around({ ...able, [absent]: undefined }, all())), rest)
  }
})

t.test('calls wait for their turn, in order, or until they are aborted', async (t) => {
  const backend = await openPosix(t)
  const asked: string[] = []
  const answers: (() => void)[] = []
  const stat: Backend['stat'] = async (_folder, path) => {
    asked.push(path)
    await new Promise<void>((resolve) => answers.push(resolve))
    return { path, type: 'file', size: 0, modifiedAt: new Date(0) }
  }
  const bounded = around({ ...backend, stat }, [bound(new Turns(2, 100))])
  const aborted = new AbortController()
  const first = ['a', 'b', 'c'].map((path) => bounded.stat('folder', parsePath(path), call))
  const given = t.rejects(bounded.stat('folder', parsePath('given up'), aborted), { message: 'enough' })
  const last = bounded.stat('folder', parsePath('d'), call)
  t.same(asked, ['a', 'b'])
  aborted.abort(new Error('enough'))
  await given
  for (let answered = 0; answered < 4; answered++) {
    await eventually(async () => answers.length > answered)
    answers[answered]!()
  }
  await Promise.all([...first, last])
  t.same(asked, ['a', 'b', 'c', 'd'])
})

t.test('one turn is enough for what reads and writes on one volume, and for files that stay open', async (t) => {
  const bounded = around(await openPosix(t), [bound(new Turns(1, 100))])
  await bounded.createFolder('00000000-0000-4000-8000-000000000000', call)
  const folder = '00000000-0000-4000-8000-000000000000'
  await bounded.write(folder, parsePath('a'), once('content'), call)
  const files = await Promise.all([1, 2, 3].map(() => bounded.read(folder, parsePath('a'), call)))
  const writing = files.map((file, index) =>
    bounded.write(folder, parsePath(`copy-${index}`), file.chunks({ start: 0, end: 7 }), call),
  )
  await Promise.all(writing)
  for (const file of files) file.close()
  for await (const { path } of bounded.list(folder, call))
    t.equal((await bounded.stat(folder, parsePath(path), call)).size, 7)
  t.equal(await drain(bounded.list(folder, call)), 4)
})

t.test('what answers after the time is closed', async (t) => {
  const backend = await openPosix(t)
  let closed = 0
  let answer = (_file: OpenFile) => {}
  const file: OpenFile = {
    entry: { path: 'file', type: 'file', size: 7, modifiedAt: new Date(0) },
    chunks: () => once('content'),
    close: () => closed++,
  }
  const limited = around(
    {
      ...backend,
      read: () =>
        new Promise((resolve) => {
          answer = resolve
        }),
    },
    [timeLimit(0.2)],
  )
  await t.rejects(limited.read('folder', parsePath('file'), call), { code: 'storage_unavailable' })
  answer(file)
  await eventually(async () => closed === 1)
  await limited.close()
})

t.test('a list that goes on after the time is ended, and a file closed when its reading is', async (t) => {
  const backend = await openPosix(t)
  const events: string[] = []
  let goOn = () => {}
  const pause = () =>
    new Promise<void>((resolve) => {
      goOn = resolve
    })
  const limited = around(
    {
      ...backend,
      async *list() {
        try {
          await pause()
          yield { path: 'a', type: 'file', size: 0, modifiedAt: new Date(0) } as const
          events.push('went on')
        } finally {
          events.push('list ended')
        }
      },
      async read() {
        return {
          entry: { path: 'a', type: 'file', size: 7, modifiedAt: new Date(0) } as const,
          async *chunks() {
            await pause()
            events.push('read')
            yield Buffer.from('content')
          },
          close: () => events.push('closed'),
        }
      },
    },
    [timeLimit(0.2)],
  )
  await t.rejects(drain(limited.list('folder', call)), { code: 'storage_unavailable' })
  goOn()
  await eventually(async () => events.includes('list ended'))
  t.same(events.splice(0), ['list ended'])

  const file = await limited.read('folder', parsePath('a'), call)
  await t.rejects(drain(file.chunks({ start: 0, end: 7 })), { code: 'storage_unavailable' })
  file.close()
  await sleep(50)
  t.same(events, [])
  goOn()
  await eventually(async () => events.includes('closed'))
  t.same(events, ['read', 'closed'])
  await limited.close()
})

t.test('an upload that may still be written to is not let go of', async (t) => {
  const backend = await openPosix(t)
  let goOn = () => {}
  const limited = around(
    {
      ...backend,
      async appendUpload(_folder, _upload, source, { signal }) {
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
        for await (const _ of source);
        signal.throwIfAborted()
        return 7
      },
    },
    [timeLimit(0.2)],
  )
  let settled = false
  const appending = limited.appendUpload('folder', 'upload', once('content'), { offset: 0, ...call }).finally(() => {
    settled = true
  })
  appending.catch(() => {})
  await sleep(600)
  t.notOk(settled)
  goOn()
  await t.rejects(appending, { code: 'storage_unavailable' })
  await limited.close()
})

t.test('what a source throws is not the failure of the storage that it is written to', async (t) => {
  const backend = around(await openPosix(t), [circuit(log)])
  const folder = '00000000-0000-4000-8000-000000000000'
  await backend.createFolder(folder, call)
  const away = new Unavailable('another storage is away')
  // biome-ignore lint/correctness/useYield: it fails before
  async function* failing(): AsyncGenerator<Buffer> {
    throw away
  }
  for (let write = 0; write < 6; write++)
    await t.rejects(backend.write(folder, parsePath('file'), failing(), call), away)
  await backend.write(folder, parsePath('file'), once('content'), call)
})

t.test('layers are entered from without, and left from within with the outcome', async (t) => {
  const backend = await openPosix(t)
  const seen: string[] = []
  const watching = (name: string, wait?: () => Promise<void>): Layer => ({
    covers: (operation, step) => operation === 'stat' && step === 'answer',
    enter(call) {
      seen.push(`${name} enters ${call.operation}`)
      return wait?.()
    },
    leave(_call, _step, outcome) {
      seen.push(`${name} leaves ${outcome.status}`)
    },
  })
  const stat: Backend['stat'] = async (_folder, path) => {
    seen.push('asked')
    if (path === 'away') throw new Unavailable('no tape')
    return { path, type: 'file', size: 0, modifiedAt: new Date(0) }
  }
  const refuse = async () => {
    throw new Unavailable('refused')
  }
  const layered = around({ ...backend, stat }, [watching('outer'), watching('inner', () => sleep(1))])
  await layered.stat('folder', parsePath('file'), call)
  t.same(seen.splice(0), [
    'outer enters stat',
    'inner enters stat',
    'asked',
    'inner leaves fulfilled',
    'outer leaves fulfilled',
  ])
  await t.rejects(layered.stat('folder', parsePath('away'), call), { message: 'no tape' })
  t.same(seen.splice(0).slice(-2), ['inner leaves rejected', 'outer leaves rejected'])
  await layered.health(call)
  t.same(seen, [])

  const refusing = around({ ...backend, stat }, [watching('outer'), watching('refusing', refuse), watching('inner')])
  await t.rejects(refusing.stat('folder', parsePath('file'), call), { message: 'refused' })
  t.same(seen, ['outer enters stat', 'refusing enters stat', 'outer leaves rejected'])
})

t.test('of many calls only those are ended that move nothing, and one that answers later ends no other', async (t) => {
  const backend = await openPosix(t)
  const answers = new Map<string, () => void>()
  const stat: Backend['stat'] = async (_folder, path) => {
    await new Promise<void>((resolve) => answers.set(path, resolve))
    return { path, type: 'file', size: 0, modifiedAt: new Date(0) }
  }
  const limited = around({ ...backend, stat }, [timeLimit(0.4)])
  const ask = (names: string[]) => names.map((name) => limited.stat('folder', parsePath(name), call))
  const late = ask(['a', 'b', 'c', 'd'])
  const [a, b, c, d] = late.map((one) =>
    one.then(
      () => 'answered',
      (error) => error.code,
    ),
  )
  for (const name of ['a', 'c']) answers.get(name)!()
  t.same(await Promise.all([a, b, c, d]), ['answered', 'storage_unavailable', 'answered', 'storage_unavailable'])
  const [e, f] = ask(['e', 'f'])
  for (const name of ['b', 'd', 'e']) answers.get(name)!()
  t.equal((await e!).path, 'e')
  await t.rejects(f!, { code: 'storage_unavailable' })
  await limited.close()
})
