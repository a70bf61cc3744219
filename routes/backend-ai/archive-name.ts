/** Separators, controls and halves of characters. */
const unusable = /[/\\\p{Cc}\p{Cs}]/u

/** Whether an archive can have that name where it is saved. */
export function isArchiveName(text: string): boolean {
  return text.trim() !== '' && text !== '.' && text !== '..' && !unusable.test(text)
}
