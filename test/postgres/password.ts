/** With characters that a URL must have encoded. */
export const password = 'p@ss/word of tests'
