import t from 'tap'
import { startReceiver } from '../receiver.ts'
import { type Answer, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'

t.test('of several processes one tells an endpoint, and another one goes on when it dies', async (t) => {
  const receiver = await startReceiver(t)
  const dataDir = await temporaryDirectory(t)
  const env = { ...receiver.env, LEASE_SECONDS: '1' }
  const first = await startServer(t, { dataDir, env })
  const second = await startServer(t, { dataDir, env })
  const folders = await Promise.all(Array.from({ length: 4 }, () => first.createFolder()))
  /** Each process stores files into each vfolder, all at once; those of a round come after those of the one before. */
  const store = (servers: Server[], round: string) =>
    Promise.all(
      servers.flatMap((server, index) =>
        folders.map((folder) => server.upload(folder, { [`${round}-${index}`]: 'x', [`${round}-${index}-too`]: 'x' })),
      ),
    )
  const delivered = (server: Server) => server.lines().filter(({ msg }) => msg === 'event delivered').length

  await store([first, second], 'a')
  const all = (event: Answer) => event.folder === folders[3] && JSON.stringify(event.data).includes('a-1-too')
  await receiver.told(all)
  const [holder, other] = delivered(first) > 0 ? [first, second] : [second, first]
  t.equal(delivered(other), 0, 'only one of them tells')

  // The answer of the last one is lost with the process.
  receiver.answer = () => new Promise(() => {})
  const seen = receiver.seen.length
  const storing = store([holder, other], 'b')
  await eventually(() => receiver.seen.length > seen)
  await storing
  await holder.end('SIGKILL')
  receiver.answer = () => 204
  await store([other], 'c')
  await eventually(async () => (await other.ask('GET', '/events/targets')).targets[0].undelivered === 0)
  t.ok(delivered(other) > 0)

  const { events: fed } = await other.ask('GET', '/events?limit=1000')
  for (const folder of folders) {
    const told = receiver.of(folder)
    const ofFolder = fed.filter((event: Answer) => event.folder === folder)
    t.same(
      told.map(({ id }) => id),
      ofFolder.map(({ id }: Answer) => id),
      'nothing is missed, and all of a vfolder is in order',
    )
    const rounds = told.flatMap(({ data }) => (data.files ?? []).map(({ path }: Answer) => path[0]))
    t.same(rounds, [...'aaaabbbbcc'])
  }
  t.equal(await other.end(), 0)
})
