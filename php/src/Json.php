<?php

declare(strict_types=1);

namespace Ws2Api;

/** Payloads as text and as values. */
final class Json
{
    private const WRITING = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;
    private const READING = JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING;

    /**
     * Nothing and PHP's empty array are the empty object, since a payload is an object. Inside of one, an empty array stays
     * `[]`: write `(object) []` there for `{}`.
     *
     * @throws \JsonException
     */
    public static function payload(mixed $value): string
    {
        return match (true) {
            $value instanceof Raw => (string) $value,
            $value === null, $value === [] => '{}',
            default => json_encode($value, self::WRITING),
        };
    }

    /**
     * Objects become arrays; integers too large for PHP become strings, so that no digit is lost.
     *
     * @throws \JsonException
     */
    public static function decode(string $text): mixed
    {
        return json_decode($text, true, 512, self::READING);
    }

    /** As {@see self::decode()}; what is no array or object, or no JSON, is an empty array. @return array<mixed> */
    public static function members(string $text): array
    {
        try {
            $value = self::decode($text);
        } catch (\JsonException) {
            return [];
        }
        return is_array($value) ? $value : [];
    }
}
