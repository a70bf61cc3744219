import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { backendAiSecret } from './backend-ai.ts'
import { type Server, type StartOptions, startServer, type Teardown } from './server.ts'

const secret = 'a-token-secret-for-tests'

/** The claims of a token of Backend.AI. */
export type Claims = Record<string, unknown>

/** A token as Backend.AI's storage-proxy makes one: a JWT by HS256. */
export function jwt(claims: Claims, key = secret): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
}

export const backendAiEnv = { BACKEND_AI_MANAGER_SECRET: backendAiSecret, BACKEND_AI_TOKEN_SECRET: secret }

/** A vfolder as the clients of Backend.AI reach it, with the tokens that a proxy of theirs with the same secret gives out. */
export class BackendAiVfolder {
  readonly server: Server
  readonly folder = randomUUID()
  readonly scope = `user:${randomUUID()}`
  mount = ''

  constructor(server: Server) {
    this.server = server
  }

  get vfid(): string {
    return `${this.scope}/${this.folder.replaceAll('-', '')}`
  }

  /** The URL of a call with a token that has these claims. */
  url(call: 'download' | 'download-archive' | 'upload', claims: Claims, more = '', key?: string): string {
    const exp = Math.ceil(Date.now() / 1000) + 3600
    return `${this.server.url}/backend-ai/${call}?token=${jwt({ volume: 'default', exp, ...claims }, key)}${more}`
  }

  download(relpath: string, more = '', claims: Claims = {}): string {
    return this.url('download', { op: 'download', vfid: this.vfid, relpath, ...claims }, more)
  }

  upload(relpath: string, size: number, more = '', claims: Claims = {}): string {
    const session = randomBytes(16).toString('hex')
    return this.url('upload', { op: 'upload', vfid: this.vfid, relpath, size, session, ...claims }, more)
  }

  archive(files: string[], filename: string | null = null): string {
    const claims = { operation: 'download', virtual_folder_id: this.vfid, files, filename }
    return this.url('download-archive', claims)
  }
}

export async function startForClients(t: Teardown, options: StartOptions = {}): Promise<BackendAiVfolder> {
  const server = await startServer(t, { ...options, env: { ...backendAiEnv, ...options.env } })
  const vfolder = new BackendAiVfolder(server)
  await server.ask('PUT', `/quota-scopes/${vfolder.scope}`, {})
  await server.createFolder({ id: vfolder.folder, quotaScope: vfolder.scope })
  vfolder.mount = await server.mountOf(vfolder.folder)
  return vfolder
}
