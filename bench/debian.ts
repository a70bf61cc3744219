import { execFileSync, spawnSync } from 'node:child_process'

const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

/** Debian's own Python, which has the modules that Debian packages. */
export const python = '/usr/bin/python3'

/** Installs a Debian package whose command is missing, as root; otherwise says what to install. */
export async function installed(command: string, debianPackage: string, path = env.PATH): Promise<void> {
  ensure(debianPackage, () => spawnSync('which', [command], { env: { PATH: path } }).status === 0)
}

/** The same for a module of `python`. */
export async function pythonModule(name: string, debianPackage: string): Promise<void> {
  ensure(debianPackage, () => spawnSync(python, ['-c', `import ${name}`], { env }).status === 0)
}

function ensure(debianPackage: string, isThere: () => boolean): void {
  if (isThere()) return
  if (process.getuid?.() !== 0) throw new Error(`${debianPackage} is missing: apt-get install ${debianPackage}`)
  // stdout belongs to the table
  const options = {
    stdio: ['ignore', 2, 2] satisfies ['ignore', 2, 2],
    env: { ...env, DEBIAN_FRONTEND: 'noninteractive' },
  }
  execFileSync('apt-get', ['update', '-qq'], options)
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', debianPackage], options)
  if (!isThere()) throw new Error(`${debianPackage} does not bring what is needed of it`)
}
