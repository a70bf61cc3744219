import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Teardown, temporaryDirectory } from './server.ts'

const project = fileURLToPath(new URL('..', import.meta.url))

/** A package of `examples/`, outside of the repository. */
export class Example {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  npm(args: string[], env: Record<string, string> = {}): Promise<string> {
    return npm(this.directory, args, env)
  }
}

/** Packs the project as npm would publish it, from a copy, since others may pack it at the same time. */
async function packProject(t: Teardown): Promise<string> {
  const directory = await temporaryDirectory(t)
  const copy = join(directory, 'project')
  await mkdir(copy)
  for (const name of ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'backends', 'exports', 'plugins']) {
    await cp(join(project, name), join(copy, name), { recursive: true })
  }
  await symlink(join(project, 'node_modules'), join(copy, 'node_modules'))
  await npm(copy, ['pack', '--pack-destination', directory])
  const tarball = (await readdir(directory)).find((name) => name.endsWith('.tgz'))
  return join(directory, tarball!)
}

/** Copies an example out of the repository, and installs what it needs together with the packed project. */
export async function installExample(t: Teardown, name: string): Promise<Example> {
  const example = new Example(join(await temporaryDirectory(t), name))
  await cp(join(project, 'examples', name), example.directory, {
    recursive: true,
    filter: (path) => !/\/(node_modules|dist|package-lock\.json)$/.test(path),
  })
  const tarball = await packProject(t)
  await example.npm(['install', '--prefer-offline', '--no-audit', '--no-fund', '--no-save', tarball])
  return example
}

/** Runs npm as in a shell, not as a part of the `npm test` that may have started this; gives what it prints. */
async function npm(cwd: string, args: string[], more: Record<string, string> = {}): Promise<string> {
  const settings = /^npm_(?!config_(registry|cache|userconfig)$)/i
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.test(name)))
  const options = { cwd, env: { ...env, ...more }, maxBuffer: 16 * 1024 * 1024 }
  const { stdout } = await promisify(execFile)('npm', args, options).catch((error) => {
    throw new Error(`npm ${args.join(' ')}: ${error.stdout}\n${error.stderr}`)
  })
  return stdout
}
