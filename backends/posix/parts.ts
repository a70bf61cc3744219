import type { Backend } from '../backend.ts'
import type { Homes } from './folders.ts'

/**
 * What a storage does better than any filesystem. What is absent is left out, or done the posix way. They report by the
 * errors of the contract, of which `translateErrors` makes those of system calls.
 */
export interface Parts {
  /** What a vfolder is, where each has places of its own; absent: a directory. */
  homes?: Homes
  quota?: Backend['quota']
  usage?: Backend['usage']
  /** See `limits` of the contract. */
  usageDelaySeconds?: number
  clone?: Backend['clone']
}
