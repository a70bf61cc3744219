import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { workAhead } from '../../backends/ahead.ts'
import type { Call } from '../../backends/backend.ts'
import { call } from '../posix.ts'

async function* numbers(count: number): AsyncGenerator<number> {
  for (let number = 0; number < count; number++) yield number
}

/** Work that takes the longer the earlier it is begun, and tells how much of it is under way. */
function slowWork() {
  const seen = { atOnce: 0, most: 0, aborted: [] as number[], begun: 0 }
  const work = async (number: number, { signal }: Call) => {
    seen.begun++
    seen.most = Math.max(seen.most, ++seen.atOnce)
    try {
      await sleep(20 - (number % 20), undefined, { signal })
    } catch (error) {
      seen.aborted.push(number)
      throw error
    } finally {
      seen.atOnce--
    }
    return `result ${number}`
  }
  return { seen, work }
}

t.test('results come in the order of the items, of which only so many are under way', async (t) => {
  const { seen, work } = slowWork()
  const taken = await Array.fromAsync(workAhead(numbers(50), { ...call, ahead: 7 }, work))
  t.same(
    taken,
    Array.from({ length: 50 }, (_, item) => ({ item, result: `result ${item}` })),
  )
  t.equal(seen.most, 8)
})

t.test('items may weigh more than others', async (t) => {
  const { seen, work } = slowWork()
  const weigh = (number: number) => (number % 2 === 0 ? 1 : 1 / 4)
  await Array.fromAsync(workAhead(numbers(40), { ...call, ahead: 2, weigh }, work))
  t.ok(seen.most > 3 && seen.most <= 5, `${seen.most}`)
})

t.test('a failure comes in its turn, and aborts what was begun behind it', async (t) => {
  const { seen, work } = slowWork()
  const failing = (number: number, call: Call) =>
    number === 10 ? Promise.reject(new Error('the tenth')) : work(number, call)
  const taken: number[] = []
  await t.rejects(
    (async () => {
      for await (const { item } of workAhead(numbers(50), { ...call, ahead: 4 }, failing)) taken.push(item)
    })(),
    { message: 'the tenth' },
  )
  t.same(taken, [...Array(10).keys()])
  t.equal(seen.atOnce, 0, 'all have ended')
  t.ok(seen.begun < 16)
})

t.test('what nobody takes is aborted, or given back', async (t) => {
  const { seen, work } = slowWork()
  const dropped: string[] = []
  const quick = (number: number, call: Call) => (number === 3 ? Promise.resolve('quick') : work(number, call))
  const options = { ...call, ahead: 5, drop: (result: string) => dropped.push(result) }
  for await (const { item } of workAhead(numbers(50), options, quick)) if (item === 1) break
  t.equal(seen.atOnce, 0)
  t.ok(dropped.includes('quick'))
  t.notOk(dropped.includes('result 0') || dropped.includes('result 1'), 'what was taken is not given back')
  t.ok(seen.aborted.length > 0)
})

t.test('an abort from outside ends all', async (t) => {
  const { seen, work } = slowWork()
  const aborting = new AbortController()
  const options = { signal: aborting.signal, ahead: 5 }
  await t.rejects(
    (async () => {
      for await (const { item } of workAhead(numbers(50), options, work)) if (item === 7) aborting.abort()
    })(),
    { name: 'AbortError' },
  )
  t.equal(seen.atOnce, 0)
})
