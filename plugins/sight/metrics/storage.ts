import type { FastifyInstance } from 'fastify'
import { currentRequestId } from '../../../lib/context.ts'
import { problems } from '../../../lib/problems.ts'
import { committed, statementEnded } from '../../storage/database/notices.ts'
import { callEnded, callRefused, circuitTurned, commandEnded } from '../../storage/notices.ts'
import { Counter, Gauge, Histogram } from './instruments.ts'
import type { Meters } from './meters.ts'

const bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120]

/** What the volumes and the database do. */
export function countStorage(meters: Meters, app: FastifyInstance): void {
  countCalls(meters)
  countTurns(meters, app)
  countCircuits(meters, app)
  countCommands(meters)
  countDatabase(meters)
}

function countCalls(meters: Meters): void {
  const durations = meters.add(
    new Histogram({
      name: 'storage_proxy_backend_call_duration_seconds',
      help: 'Calls of backends that succeeded, by how long they took until their answer.',
      labels: ['volume', 'operation'],
      bounds,
    }),
  )
  const failures = meters.add(
    new Counter({
      name: 'storage_proxy_backend_call_failures_total',
      help: 'Calls of backends that failed, by their code; some, such as entry_not_found, are answers.',
      labels: ['volume', 'operation', 'code'],
    }),
  )
  meters.until(
    callEnded.take((volume, { operation }, seconds, code) => {
      if (code === undefined) durations.of(volume, operation).observe(seconds, currentRequestId())
      else failures.of(volume, operation, knownCode(code)).add()
    }),
  )
}

/** Of the calls whose number is bounded. */
function countTurns(meters: Meters, app: FastifyInstance): void {
  const calls = new Gauge({
    name: 'storage_proxy_backend_calls',
    help: 'Calls of backends, of those that maxCalls bounds, that are running or wait for their turn.',
    labels: ['volume', 'state'],
    look: () => {
      for (const { name, turns } of app.volumes.all()) {
        calls.of(name, 'running').value = turns.running
        calls.of(name, 'waiting').value = turns.waiting
      }
    },
  })
  meters.add(calls)
  const refused = meters.add(
    new Counter({
      name: 'storage_proxy_backend_calls_refused_total',
      help: 'Calls of backends that were refused, since maxWaitingCalls waited for their turn.',
      labels: ['volume'],
    }),
  )
  for (const { name } of app.volumes.all()) refused.of(name)
  meters.until(callRefused.take((volume) => refused.of(volume).add()))
}

/** A plugin may give codes of its own. */
function knownCode(code: string): string {
  return Object.hasOwn(problems, code) || ['source', 'timeout', 'aborted'].includes(code) ? code : 'other'
}

function countCircuits(meters: Meters, app: FastifyInstance): void {
  const circuits = meters.add(
    new Gauge({
      name: 'storage_proxy_volume_circuit_open',
      help: 'In how many processes the volume counts as away, so that its calls fail at once.',
      labels: ['volume'],
    }),
  )
  for (const { name } of app.volumes.all()) circuits.of(name)
  meters.until(
    circuitTurned.take((volume, isOpen) => {
      circuits.of(volume).value = isOpen ? 1 : 0
    }),
  )
}

function countCommands(meters: Meters): void {
  const labels = ['volume', 'command']
  const durations = meters.add(
    new Histogram({
      name: 'storage_proxy_storage_command_duration_seconds',
      help: 'Commands to the servers of volumes, such as S3, by how long they took with all their attempts.',
      labels,
      bounds,
    }),
  )
  const attempts = meters.add(
    new Counter({
      name: 'storage_proxy_storage_command_attempts_total',
      help: 'How often these commands were sent.',
      labels,
    }),
  )
  const failures = meters.add(
    new Counter({
      name: 'storage_proxy_storage_command_failures_total',
      help: 'Commands that failed in the end; some, such as a HeadObject of what is not there, are answers.',
      labels,
    }),
  )
  meters.until(
    commandEnded.take((volume, command) => {
      durations.of(volume, command.name).observe(command.seconds, currentRequestId())
      attempts.of(volume, command.name).add(command.attempts)
      if (command.failed) failures.of(volume, command.name).add()
    }),
  )
}

function countDatabase(meters: Meters): void {
  const statements = meters.add(
    new Histogram({
      name: 'storage_proxy_database_statement_duration_seconds',
      help: 'Statements by how long they took, with the wait for the database.',
      labels: ['kind'],
      bounds,
    }),
  )
  const commits = meters.add(
    new Histogram({
      name: 'storage_proxy_database_commit_duration_seconds',
      help: 'Commits of transactions by how long they took; those that are not flushed wait for no disk.',
      labels: ['flushed'],
      bounds,
    }),
  )
  meters.until(statementEnded.take((kind, seconds) => statements.of(kind).observe(seconds, currentRequestId())))
  meters.until(committed.take((flushed, seconds) => commits.of(String(flushed)).observe(seconds, currentRequestId())))
}
