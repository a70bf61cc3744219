import { runProgram } from '../program.ts'
import { shareOf } from './files.ts'

// Node has no calls for ACLs and extended attributes, so a volume that keeps them runs getfattr and setfattr of Debian's
// package attr. An ACL is an extended attribute, too (acl(5), "posix_acl" of fs/posix_acl.c in Linux).

const accessAcl = 'system.posix_acl_access'
const defaultAcl = 'system.posix_acl_default'
/** Not those of the namespaces `security` and `trusted`: a file capability would be for other bytes. */
const keptNames = '^(user\\.|system\\.posix_acl_access$)'
const timeoutSeconds = 60
/** They are called for what is about to be stored whole; nobody gives it up on the way. */
const call = { signal: new AbortController().signal, timeoutSeconds }

/** By name, each in hexadecimal. */
type Attributes = Map<string, string>

/** @throws when the programs are missing */
export async function requirePrograms(): Promise<void> {
  for (const program of ['getfattr', 'setfattr']) await runProgram(program, ['--version'], call)
}

/** Gives a staged file those of the file that it is to replace. @returns whether there are any */
export async function keepExtended(staging: string, replaced: string): Promise<boolean> {
  return write(staging, await read(replaced, keptNames))
}

/** Gives a staged file the ACL that a program would get that makes it in the directory. @returns whether there is one */
export async function inheritAcl(staging: string, directory: string, mode: number): Promise<boolean> {
  const inherited = (await read(directory, defaultAcl)).get(defaultAcl)
  if (inherited === undefined) return false
  return write(staging, new Map([[accessAcl, accessOf(inherited, mode)]]))
}

/** Whether the kernel gives an ACL to what is made in the directory. */
export async function hasDefaultAcl(directory: string): Promise<boolean> {
  return (await read(directory, defaultAcl)).has(defaultAcl)
}

async function read(path: string, pattern: string): Promise<Attributes> {
  const how = ['--no-dereference', '--absolute-names', '--dump', '--encoding=hex', `--match=${pattern}`]
  const lines = (await runProgram('getfattr', [...how, '--', path], { ...call, share: shareOf(path) })).split('\n')
  const found: Attributes = new Map()
  for (const line of lines) {
    const [, name, value] = /^([^#][^=]*)=(0x[0-9a-f]*)$/.exec(line) ?? []
    if (name !== undefined && value !== undefined) found.set(name, value)
  }
  return found
}

/** The names are as getfattr has written them, which setfattr reads so again. */
async function write(path: string, attributes: Attributes): Promise<boolean> {
  if (attributes.size === 0) return false
  const lines = [
    `# file: ${path.replaceAll('\\', '\\134')}`,
    ...attributes.entries().map(([name, value]) => `${name}=${value}`),
    '',
  ]
  await runProgram('setfattr', ['--restore=-'], { ...call, share: shareOf(path), input: lines.join('\n') })
  return true
}

const headerBytes = 4
const entryBytes = 8
const tags = { owner: 0x01, owningGroup: 0x04, mask: 0x10, others: 0x20 }

/** A default ACL as that of a file made with this mode: nobody has more than the mode says (acl(5)). */
function accessOf(inherited: string, mode: number): string {
  const bytes = Buffer.from(inherited.slice(2), 'hex')
  const places = new Map<number, number>()
  for (let at = headerBytes; at < bytes.length; at += entryBytes) places.set(bytes.readUInt16LE(at), at + 2)
  const narrow = (tag: number, bits: number) => {
    const at = places.get(tag)
    if (at !== undefined) bytes.writeUInt16LE(bytes.readUInt16LE(at) & bits, at)
  }
  narrow(tags.owner, (mode >> 6) & 7)
  narrow(places.has(tags.mask) ? tags.mask : tags.owningGroup, (mode >> 3) & 7)
  narrow(tags.others, mode & 7)
  return `0x${bytes.toString('hex')}`
}
