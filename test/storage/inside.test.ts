import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import {
  type BackendError,
  InvalidOperation,
  InvalidPath,
  NotADirectory,
  NotFound,
  OutsideFolder,
} from '../../backends/errors.ts'
import { translate, translateErrors } from '../../backends/posix/errno.ts'
import { openInside, openInsideSync, openStep, openStepSync } from '../../backends/posix/inside.ts'
import { eventually, temporaryDirectory } from '../server.ts'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants
const directory = O_RDONLY | O_DIRECTORY
const noSymlink = O_RDONLY | O_NONBLOCK | O_NOFOLLOW

/** Both ways give a descriptor, or an error of the backend. */
const variants = {
  async: {
    open: openInside,
    step: (location: string) => translateErrors(location, () => openStep(location)),
  },
  sync: {
    open: async (...args: Parameters<typeof openInsideSync>) =>
      waited(args[1].join('/'), () => openInsideSync(...args)),
    step: async (location: string) => waited(location, () => openStepSync(location)),
  },
}

function waited(path: string, operation: () => number): number {
  try {
    return operation()
  } catch (error) {
    throw translate(error, path)
  }
}

/** A vfolder, what is beside it, and what was done to them. */
interface Tree {
  root: string
  outside: string
}

type Expected = string | typeof BackendError

interface Case {
  path: string
  flags?: number
  /** The content of the file; for a directory its name is enough. */
  expected: Expected
  prepare?: (tree: Tree) => void
  /** Done after the open, right before the kernel is asked where that is. */
  meanwhile?: (tree: Tree) => void
}

const long = 'n'.repeat(255)
const longDirectories = Array.from({ length: 16 }, () => long)
const link = (target: string, path: string) => (tree: Tree) => fs.symlinkSync(target, join(tree.root, path))
const linkOut =
  (path: string, target = '') =>
  (tree: Tree) =>
    fs.symlinkSync(join(tree.outside, target), join(tree.root, path))
const swap = (path: string, by: string) => (tree: Tree) => {
  fs.renameSync(join(tree.root, path), join(tree.root, `${path}-aside`))
  fs.renameSync(join(tree.root, by), join(tree.root, path))
}
const moveOut = (path: string) => (tree: Tree) => fs.renameSync(join(tree.root, path), join(tree.outside, 'moved'))

/** Makes a chain of directories that is deeper than a path can be, with a file or a symlink at its end. */
function deep(tree: Tree, last: string): void {
  const script = `for (let i = 0; i < 16; i++) { fs.mkdirSync('${long}'); process.chdir('${long}') }; ${last}`
  execFileSync(process.execPath, ['-e', `const fs = require('node:fs'); ${script}`], { cwd: tree.root })
}

const cases: Record<string, Case> = {
  'a file': { path: 'file', expected: 'inside' },
  'a file in directories': { path: 'a/b/file', expected: 'inside' },
  'a directory': { path: 'a/b', flags: directory, expected: 'b' },
  'what is not there': { path: 'a/none', expected: NotFound },
  'what is in nothing': { path: 'none/none', expected: NotFound },

  // A symlink at each position.
  'a symlink to a file inside': { path: 'l', prepare: link('a/b/file', 'l'), expected: 'inside' },
  'a symlink to a directory inside': { path: 'l', flags: directory, prepare: link('a/b', 'l'), expected: 'b' },
  'a symlink as the first name': { path: 'l/b/file', prepare: link('a', 'l'), expected: 'inside' },
  'a symlink as a name in between': { path: 'a/l/file', prepare: link('b', 'a/l'), expected: 'inside' },
  'a symlink as the last name': { path: 'a/b/l', prepare: link('../../file', 'a/b/l'), expected: 'inside' },
  'a symlink out': { path: 'l', prepare: linkOut('l', 'file'), expected: OutsideFolder },
  'a symlink out, to a directory': { path: 'l', flags: directory, prepare: linkOut('l'), expected: OutsideFolder },
  'a symlink out as the first name': { path: 'l/b/file', prepare: linkOut('l', 'a'), expected: OutsideFolder },
  'a symlink out as a name in between': { path: 'a/l/file', prepare: linkOut('a/l'), expected: OutsideFolder },
  'a symlink out as the last name': { path: 'a/b/l', prepare: linkOut('a/b/l', 'file'), expected: OutsideFolder },
  'a symlink out as the last of directories': {
    path: 'a/b/l',
    flags: directory,
    prepare: linkOut('a/b/l', 'a'),
    expected: OutsideFolder,
  },
  'a symlink to the parent of the vfolder': {
    path: 'l/outside/file',
    prepare: link('..', 'l'),
    expected: OutsideFolder,
  },
  'a symlink to the vfolder itself': { path: 'l/a/b/file', prepare: link('.', 'l'), expected: 'inside' },
  'a symlink to a vfolder whose name begins with that of this one': {
    path: 'l/file',
    prepare: ({ root }) => {
      fs.mkdirSync(`${root}-2`)
      fs.writeFileSync(`${root}-2/file`, 'outside')
      fs.symlinkSync(`${root}-2`, join(root, 'l'))
    },
    expected: OutsideFolder,
  },
  'a symlink that dangles': { path: 'a/l', prepare: link('none', 'a/l'), expected: NotFound },
  'a loop': { path: 'a/l', prepare: link('l', 'a/l'), expected: InvalidOperation },
  'a loop as the only name': { path: 'l', prepare: link('l', 'l'), expected: InvalidOperation },
  'a chain of symlinks inside': {
    path: 'l20/file',
    prepare: ({ root }) => {
      fs.symlinkSync('a/b', join(root, 'l0'))
      for (let at = 1; at <= 20; at++) fs.symlinkSync(`l${at - 1}`, join(root, `l${at}`))
    },
    expected: 'inside',
  },
  'a chain of symlinks that ends outside': {
    path: 'l20/file',
    prepare: ({ root, outside }) => {
      fs.symlinkSync(outside, join(root, 'l0'))
      for (let at = 1; at <= 20; at++) fs.symlinkSync(`l${at - 1}`, join(root, `l${at}`))
    },
    expected: OutsideFolder,
  },

  // Absolute ones, and those that lead out and in again.
  'an absolute symlink to a file inside': {
    path: 'a/l',
    prepare: ({ root }) => fs.symlinkSync(join(root, 'file'), join(root, 'a/l')),
    expected: 'inside',
  },
  'an absolute symlink to a file of the system': {
    path: 'a/l',
    prepare: link('/etc/passwd', 'a/l'),
    expected: OutsideFolder,
  },
  'an absolute symlink to the root of the system': {
    path: 'l/etc/passwd',
    prepare: link('/', 'l'),
    expected: OutsideFolder,
  },
  'a symlink out whose target leads in again': {
    path: 'l/back/b/file',
    prepare: (tree) => {
      linkOut('l')(tree)
      fs.symlinkSync(join(tree.root, 'a'), join(tree.outside, 'back'))
    },
    expected: 'inside',
  },
  'a relative symlink out and in again': {
    path: 'a/l/b/file',
    prepare: link('../../folder/a', 'a/l'),
    expected: 'inside',
  },
  'one through a descriptor of this process': {
    path: `a/l`,
    prepare: link(`/proc/${process.pid}/cwd`, 'a/l'),
    flags: directory,
    expected: OutsideFolder,
  },

  // `..`, which no path has, and which leads elsewhere once a directory is another one.
  'no name leads up': { path: '..', flags: directory, expected: OutsideFolder },
  'no name leads up in between': { path: 'a/../../outside/file', expected: OutsideFolder },
  'no name leads up at the end': { path: 'a/..', flags: directory, expected: OutsideFolder },
  'no name leads up even where that is inside': { path: 'a/../file', expected: OutsideFolder },
  'no name leads up where no path is long enough': {
    path: [...longDirectories, '..', 'file'].join('/'),
    prepare: (tree) => deep(tree, ''),
    expected: OutsideFolder,
  },
  'a symlink up in a directory that was moved up': {
    path: 'b/l/outside/file',
    prepare: (tree) => {
      link('../..', 'a/b/l')(tree)
      fs.renameSync(join(tree.root, 'a/b'), join(tree.root, 'b'))
    },
    expected: OutsideFolder,
  },

  // Another kind than is wanted.
  'a file where a directory is wanted': { path: 'a/b/file', flags: directory, expected: NotADirectory },
  'a file as the only name, where a directory is wanted': { path: 'file', flags: directory, expected: NotADirectory },
  'a file on the way': { path: 'file/file', expected: NotADirectory },
  'a symlink to a file on the way': { path: 'a/l/file', prepare: link('b/file', 'a/l'), expected: NotADirectory },
  'a symlink to a file where a directory is wanted': {
    path: 'a/l',
    flags: directory,
    prepare: link('b/file', 'a/l'),
    expected: NotADirectory,
  },

  // For calls that want no symlink at the end.
  'a symlink where none is wanted': {
    path: 'l',
    flags: noSymlink,
    prepare: link('file', 'l'),
    expected: InvalidOperation,
  },
  'a deeper symlink where none is wanted': {
    path: 'a/l',
    flags: noSymlink,
    prepare: link('b/file', 'a/l'),
    expected: InvalidOperation,
  },
  'a symlink on the way to one that is wanted': {
    path: 'l/b/file',
    flags: noSymlink,
    prepare: link('a', 'l'),
    expected: 'inside',
  },
  'a symlink out on the way to one that is wanted': {
    path: 'l/file',
    flags: noSymlink,
    prepare: linkOut('l'),
    expected: OutsideFolder,
  },

  // Names and paths of all lengths.
  'a name of 255 bytes': {
    path: `${long}/${long}`,
    prepare: ({ root }) => {
      fs.mkdirSync(join(root, long))
      fs.writeFileSync(join(root, long, long), 'inside')
    },
    expected: 'inside',
  },
  'a symlink out of a name of 255 bytes': { path: long, prepare: linkOut(long, 'file'), expected: OutsideFolder },
  'a name of 256 bytes': { path: `a/${long}n`, expected: InvalidPath },
  'a chain that is deeper than a path can be': {
    path: [...longDirectories, 'file'].join('/'),
    prepare: (tree) => deep(tree, `fs.writeFileSync('file', 'inside')`),
    expected: 'inside',
  },
  'a symlink at the end of such a chain': {
    path: [...longDirectories, 'l'].join('/'),
    prepare: (tree) => deep(tree, `fs.symlinkSync('${join(tree.outside, 'file')}', 'l')`),
    expected: InvalidOperation,
  },
  'a symlink on the way of such a chain': {
    path: [...longDirectories, 'l', 'file'].join('/'),
    prepare: (tree) => deep(tree, `fs.symlinkSync('${tree.outside}', 'l')`),
    expected: NotADirectory,
  },

  // Changes after the open.
  'a directory that is swapped with a symlink out': {
    path: 'a/file',
    prepare: linkOut('l'),
    meanwhile: swap('a', 'l'),
    expected: 'inside',
  },
  'a symlink out that is swapped with a directory': {
    path: 'l/file',
    prepare: linkOut('l'),
    meanwhile: swap('l', 'a'),
    expected: OutsideFolder,
  },
  'a directory that is moved out': { path: 'a/b/file', meanwhile: moveOut('a'), expected: OutsideFolder },
  'a file that is moved out': { path: 'a/file', meanwhile: moveOut('a/file'), expected: OutsideFolder },
  'a vfolder that is removed': {
    path: 'a/file',
    meanwhile: ({ root }) => fs.renameSync(root, `${root}-removed`),
    expected: NotFound,
  },
}

/** At the depth that a vfolder has in a volume. */
async function makeTree(t: Test): Promise<Tree> {
  const top = fs.realpathSync(await temporaryDirectory(t))
  const tree = { root: join(top, '3f/a1/folder'), outside: join(top, '3f/a1/outside') }
  for (const [place, content] of [
    [tree.root, 'inside'],
    [tree.outside, 'outside'],
  ] as const) {
    fs.mkdirSync(join(place, 'a/b'), { recursive: true })
    for (const path of ['file', 'a/file', 'a/b/file']) fs.writeFileSync(join(place, path), content)
  }
  return tree
}

/** Lets `meanwhile` happen the next time that the kernel is asked for the path of a descriptor. */
function interrupt(meanwhile: () => void): () => void {
  const { readlinkSync } = fs
  const undo = () => {
    fs.readlinkSync = readlinkSync
  }
  const interrupted: typeof readlinkSync = Object.assign((...args: Parameters<typeof readlinkSync>) => {
    undo()
    meanwhile()
    return readlinkSync(...args)
  })
  fs.readlinkSync = interrupted
  return undo
}

async function seen(opening: Promise<number>): Promise<{ content?: string; error?: unknown }> {
  try {
    const fd = await opening
    try {
      if (!fs.fstatSync(fd).isDirectory()) return { content: fs.readFileSync(fd, 'utf8') }
      const path = fs.readlinkSync(`/proc/self/fd/${fd}`)
      return { content: path.slice(path.lastIndexOf('/') + 1) }
    } finally {
      fs.closeSync(fd)
    }
  } catch (error) {
    return { error }
  }
}

for (const [name, variant] of Object.entries(variants)) {
  t.test(name, async (t) => {
    for (const [what, { path, flags, expected, prepare, meanwhile }] of Object.entries(cases)) {
      const tree = await makeTree(t)
      prepare?.(tree)
      const undo = meanwhile && interrupt(() => meanwhile(tree))
      const { content, error } = await seen(variant.open(tree.root, path.split('/'), flags))
      undo?.()
      if (typeof expected === 'string') t.same({ content, error }, { content: expected, error: undefined }, what)
      else t.ok(error instanceof expected, `${what}: ${content ?? error}`)
      // A close takes its time.
      await eventually(() => !openFiles().some((path) => path.startsWith(tree.root)))
      // Node does not remove what is deeper than a path can be.
      execFileSync('rm', ['-rf', tree.root])
    }
  })

  t.test(`${name}: one step leads through no symlink`, async (t) => {
    const { root, outside } = await makeTree(t)
    fs.symlinkSync('a', join(root, 'in'))
    fs.symlinkSync(outside, join(root, 'out'))
    t.equal((await seen(variant.step(join(root, 'a')))).content, 'a')
    for (const at of ['in', 'out', 'file']) {
      t.ok((await seen(variant.step(join(root, at)))).error instanceof NotADirectory, at)
    }
    t.ok((await seen(variant.step(join(root, 'none')))).error instanceof NotFound)
  })

  t.test(`${name}: a directory that is swapped all the time leads nowhere outside`, async (t) => {
    const tree = await makeTree(t)
    linkOut('link')(tree)
    const swapper = new Worker(
      `const { renameSync } = require('node:fs')
      const at = (name) => require('node:worker_threads').workerData + '/' + name
      for (;;) {
        renameSync(at('a'), at('aside')); renameSync(at('link'), at('a'))
        renameSync(at('a'), at('link')); renameSync(at('aside'), at('a'))
      }`,
      { eval: true, workerData: tree.root },
    )
    t.teardown(() => swapper.terminate())
    const met = new Map<string, number>()
    const deadline = Date.now() + 20_000
    for (let round = 0; round < 2000 || (met.size < 3 && Date.now() < deadline); round++) {
      const { content, error } = await seen(variant.open(tree.root, ['a', 'file']))
      const outcome = content ?? (error instanceof Error ? error.constructor.name : String(error))
      met.set(outcome, (met.get(outcome) ?? 0) + 1)
    }
    t.same([...met.keys()].toSorted(), ['NotFound', 'OutsideFolder', 'inside'], JSON.stringify([...met]))
  })
}

function openFiles(): string[] {
  return fs.readdirSync('/proc/self/fd').map(linkOf)
}

function linkOf(fd: string): string {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}
