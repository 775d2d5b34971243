<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * A push that has no CallResult: {@see ClientError}, {@see NoAnswer}, {@see PushRefused} or {@see IngressUnreachable}.
 */
abstract class PushFailed extends \RuntimeException
{
    /** False: the client has never seen it, so a repeat cannot run twice. */
    abstract public function mayHaveRun(): bool;

    /** What ws2api posts to `/error`. */
    public static function posted(Request $request): ClientError|NoAnswer
    {
        $isOwn = $request->header('X-Origin') === 'ws2api';
        return $isOwn ? NoAnswer::from($request->payload()) : ClientError::from($request->payload());
    }
}
