import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { installed } from './debian.ts'
import type { Bench } from './row.ts'
import { answering, freePort, stop } from './service.ts'

/** An nginx that serves `root` with sendfile, as Debian packages it and two workers for two cores. */
export async function startNginx(bench: Bench, root: string, more = ''): Promise<string> {
  await installed('nginx', 'nginx-light')
  const directory = join(bench.directory, 'nginx')
  await mkdir(directory)
  const port = await freePort()
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  )
  await writeFile(
    join(directory, 'nginx.conf'),
    `worker_processes 2; ${process.getuid?.() === 0 ? 'user root;' : ''} pid ${directory}/pid; daemon off;
     events {}
     http { access_log off; sendfile on; tcp_nopush on; open_file_cache off; ${paths.join(' ')}
       server { listen 127.0.0.1:${port}; root ${root}; ${more} } }`,
  )
  const args = ['-c', join(directory, 'nginx.conf'), '-e', join(directory, 'error.log')]
  const child = spawn('nginx', args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { PATH: '/usr/sbin:/usr/bin:/bin' },
  })
  bench.cleanup(() => stop(child))
  const url = `http://127.0.0.1:${port}`
  await answering(url)
  return url
}
