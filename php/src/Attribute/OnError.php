<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that takes the end of a push without a CallResult: the client's CallError ({@see \Ws2Api\ClientError}), or
 * ws2api's word that there will be no answer ({@see \Ws2Api\NoAnswer}).
 */
#[Attribute(Attribute::TARGET_METHOD | Attribute::IS_REPEATABLE)]
final class OnError
{
    /** @param string|null $action null: every Action that no other method is named for */
    public function __construct(public readonly ?string $action = null)
    {
    }
}
