/**
 * What we take for a zod type: by what it carries, not by whose it is, so that types of zod 3 and of zod 4 serve alike, also
 * where a project holds both.
 */

/** A zod type of any version. */
export type Validator =
  | { readonly _zod: { readonly output: unknown; readonly input: unknown } }
  | { readonly _output: unknown; readonly _input: unknown };

/** Named zod types: what `z.object` takes. */
export type Shape = { readonly [field: string]: Validator };

/** What a validated value is. */
export type Output<V> = V extends { readonly _zod: { readonly output: infer O } }
  ? O
  : V extends { readonly _output: infer O }
    ? O
    : never;

/** What may be given: a field with a default may be left out. */
export type Input<V> = V extends { readonly _zod: { readonly input: infer I } }
  ? I
  : V extends { readonly _input: infer I }
    ? I
    : never;

/** One object type in place of an intersection, so that an editor shows its fields. */
export type Flat<T> = { [K in keyof T]: T[K] } & {};

/** Fields that may be undefined may be left out. */
type Omittable<T> = Flat<
  { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
    [K in keyof T as undefined extends T[K] ? K : never]?: T[K];
  }
>;

/** What an object of a shape is once it is validated. */
export type ShapeOutput<S extends Shape> = Omittable<{ -readonly [K in keyof S]: Output<S[K]> }>;

/** What may be given for an object of a shape. */
export type ShapeInput<S extends Shape> = Omittable<{ -readonly [K in keyof S]: Input<S[K]> }>;

/** Arguments as a function states them: a shape, or one zod type (`z.object({…})`). */
export type ArgsValidator = Shape | Validator;

/** What a handler gets. */
export type ArgsOutput<A> = A extends Validator ? Output<A> : A extends Shape ? ShapeOutput<A> : {};

/** What a caller gives. */
export type ArgsInput<A> = A extends Validator ? Input<A> : A extends Shape ? ShapeInput<A> : {};
