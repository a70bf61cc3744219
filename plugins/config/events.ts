import { ConfigError } from './error.ts'
import { readVariable, settingOf } from './setting.ts'
import type { Values } from './variables.ts'

export function eventSettingsOf(env: NodeJS.ProcessEnv, values: Values) {
  const webhookUrls = settingOf(readVariable(env, 'WEBHOOK_URLS'))
  const valkeyUrl = settingOf(readVariable(env, 'VALKEY_URL'))
  const told = webhookUrls ?? valkeyUrl
  const isOn = values.EVENTS === undefined ? told !== undefined : values.EVENTS === 'on'
  if (!isOn && told !== undefined) throw new ConfigError(`EVENTS must not be off where ${told.name} is set`)
  if (values.WEBHOOK_RETRY_SECONDS > values.EVENT_RETENTION_SECONDS) {
    throw new ConfigError('WEBHOOK_RETRY_SECONDS must not be more than EVENT_RETENTION_SECONDS')
  }
  return {
    events: isOn,
    // Nothing else is of use to Backend.AI's manager.
    eventsOfJobsOnly: isOn && values.EVENTS === undefined && webhookUrls === undefined,
    eventRetentionSeconds: values.EVENT_RETENTION_SECONDS,
    webhookUrls,
    valkeyUrl,
    webhookSecrets: settingOf(readVariable(env, 'WEBHOOK_SECRETS')),
    webhookTimeoutSeconds: values.WEBHOOK_TIMEOUT_SECONDS,
    webhookRetrySeconds: values.WEBHOOK_RETRY_SECONDS,
    webhookPrivateNetworks: values.WEBHOOK_PRIVATE_NETWORKS,
    quotaWarningPercent: values.QUOTA_WARNING_PERCENT,
  }
}
