import { execFileSync, spawnSync } from 'node:child_process'

const path = `${process.env.PATH}:/usr/sbin:/sbin`

/** Installs a Debian package whose command is missing, as root; otherwise says what to install. */
export async function installed(command: string, debianPackage: string): Promise<void> {
  const there = () => spawnSync('which', [command], { env: { PATH: path } }).status === 0
  if (there()) return
  if (process.getuid?.() !== 0) throw new Error(`${command} is missing: apt-get install ${debianPackage}`)
  // stdout belongs to the table
  const options = {
    stdio: ['ignore', 2, 2] satisfies ['ignore', 2, 2],
    env: { PATH: path, DEBIAN_FRONTEND: 'noninteractive' },
  }
  execFileSync('apt-get', ['update', '-qq'], options)
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', debianPackage], options)
  if (!there()) throw new Error(`${debianPackage} does not bring ${command}`)
}
