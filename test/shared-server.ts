import t from 'tap'
import { startServer } from './server.ts'

/**
 * The service as it is by default. `npm test` runs the files that import it one after the other in one process, so that it
 * is started once; what one does to it as a whole, the next would see.
 */
export const server = await startServer(t)
