import { context, propagation, type Tracer, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-node'
import { within } from '../../../lib/within.ts'
import manifest from '../../../package.json' with { type: 'json' }

/** How long the end of the service waits for the last spans to be taken. */
const endSeconds = 2

interface Delivery {
  tracer: Tracer
  end(): Promise<void>
}

/**
 * Delivers spans by OTLP, in batches; while nobody takes them, so many wait, and those beyond are dropped. What
 * OpenTelemetry has further variables for, its SDK reads itself.
 * @param instance names this process
 * @param onTurn is told when spans are not taken, and why, and when they are again
 */
export function startDelivery(endpoint: string, instance: string, onTurn: (failure?: string) => void): Delivery {
  const own = { 'service.name': manifest.name, 'service.version': manifest.version, 'service.instance.id': instance }
  const told = detectResources({ detectors: [envDetector] })
  const exporter = new OTLPTraceExporter({ url: `${endpoint}/v1/traces` })
  const provider = new NodeTracerProvider({
    resource: defaultResource().merge(resourceFromAttributes(own)).merge(told),
    spanProcessors: [new BatchSpanProcessor(tellTurns(exporter, onTurn))],
  })
  provider.register()

  return {
    tracer: provider.getTracer(manifest.name, manifest.version),
    async end() {
      await within(endSeconds, provider.shutdown()).catch((error: Error) => onTurn(error.message))
      for (const api of [trace, context, propagation]) api.disable()
    },
  }
}

function tellTurns(exporter: SpanExporter, onTurn: (failure?: string) => void): SpanExporter {
  let isAway = false
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        const failure = result.code === 0 ? undefined : (result.error?.message ?? 'it does not say why')
        if (isAway !== (failure !== undefined)) onTurn(failure)
        isAway = failure !== undefined
        done(result)
      })
    },
    shutdown: () => exporter.shutdown(),
  }
}
