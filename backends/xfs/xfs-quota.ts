import type { FastifyBaseLogger } from 'fastify'
import type { Call, QuotaLimits } from '../backend.ts'
import { ToolFailed } from '../errors.ts'
import { mountPointOf, shareOf } from '../posix/compose.ts'
import { runTool } from '../tool.ts'
import { type ProjectQuota, parseCheck, parseQuota, parseState } from './report.ts'

/** What it is asked for takes no time, unless the storage does not answer. */
const usualSeconds = 60
/** To give all entries of a vfolder to its project takes as long as there are entries. */
const longestSeconds = 24 * 3600

interface Run extends Call {
  commands: string[]
  /** The directory that `.` is in the commands, and on the filesystem that they are about. */
  directory: string
  timeoutSeconds?: number
}

/**
 * Project quotas by xfs_quota(8). Directories are told to it as the one that it runs in, since its commands are split at
 * spaces. The files in which an operator may have named projects are left out.
 */
export class XfsQuota {
  readonly #program: readonly string[]
  readonly #log: FastifyBaseLogger

  constructor(program: readonly string[], log: FastifyBaseLogger) {
    this.#program = program
    this.#log = log
  }

  async state(directory: string, call: Call): Promise<ReturnType<typeof parseState>> {
    return parseState(await this.#run({ ...call, commands: ['state -p'], directory }))
  }

  /** What a project has; undefined of one that was never used. */
  async quota(project: number, directory: string, call: Call): Promise<ProjectQuota | undefined> {
    return parseQuota(await this.#run({ ...call, commands: [quotaCommand(project)], directory }))
  }

  /** The same, and whether the directory itself is of the project. */
  async look(
    project: number,
    directory: string,
    call: Call,
  ): Promise<{ quota: ProjectQuota | undefined; isOfProject: boolean }> {
    const output = await this.#run({ ...call, commands: [checkCommand(project), quotaCommand(project)], directory })
    return { quota: parseQuota(output), isOfProject: parseCheck(output) }
  }

  /** @returns whether the directory itself is of the project */
  async limit(project: number, { bytes, files }: QuotaLimits, directory: string, call: Call): Promise<boolean> {
    const limits = `bsoft=0 bhard=${hardLimit(bytes, 1024)} isoft=0 ihard=${hardLimit(files, 1)}`
    const commands = [`limit -p ${limits} ${project}`, checkCommand(project)]
    return parseCheck(await this.#run({ ...call, commands, directory }))
  }

  /** Gives an empty directory, and what will be made in it, to a project. */
  async give(project: number, directory: string, call: Call): Promise<void> {
    const commands = [`project -s -d 0 -p . ${project}`, checkCommand(project)]
    if (parseCheck(await this.#run({ ...call, commands, directory }))) return
    throw new ToolFailed(`the vfolder did not become part of project ${project}`)
  }

  /** Gives all that is in a directory to a project, but not the directory itself. */
  async giveEntries(project: number, names: string[], directory: string, call: Call): Promise<void> {
    for (const name of names) {
      const commands = [`project -s -p ./${name} ${project}`]
      await this.#run({ ...call, commands, directory, timeoutSeconds: longestSeconds })
    }
  }

  async #run({ commands, directory, signal, timeoutSeconds = usualSeconds }: Run): Promise<string> {
    const [file = '', ...args] = this.#program
    const without = ['-x', '-D', '/dev/null', '-P', '/dev/null']
    // The tool takes nothing but mount points.
    const mountPoint = await mountPointOf(directory)
    const tool = {
      file,
      args: [...args, ...without, ...commands.flatMap((command) => ['-c', command]), mountPoint],
      // Not in words of another language.
      env: { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
      cwd: directory,
    }
    const startedAt = performance.now()
    const { status, stdout, stderr } = await runTool(tool, { timeoutSeconds, signal, share: shareOf(directory) })
    const fields = { commands, status, duration_ms: Math.round(performance.now() - startedAt) }
    if (status === 0) this.#log.debug({ ...fields, ...(stderr !== '' && { stderr }) }, 'xfs_quota done')
    else this.#log.warn({ ...fields, stderr }, 'xfs_quota failed')
    if (status !== 0) throw new ToolFailed(`xfs_quota ended with status ${status}; the log has what it said`)
    return stdout
  }
}

const quotaCommand = (project: number) => `quota -p -n -N -v -b -i ${project}`
const checkCommand = (project: number) => `project -c -d 0 -p . ${project}`

/** A limit of 0 would be none, so the least is one unit. */
function hardLimit(limit: number | null, unit: number): number {
  return limit === null ? 0 : Math.max(1, Math.ceil(limit / unit)) * unit
}
