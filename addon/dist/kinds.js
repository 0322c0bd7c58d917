// Shapes that the parts of the add-on share. Those of the server are docs/aliases.md's.
export const defaults = { style: 'words', domain: '', place: 'beside', click: 'new' };
export class Failure extends Error {
    code;
    constructor(code) {
        super(code);
        this.code = code;
    }
}
